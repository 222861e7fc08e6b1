# SPDX-License-Identifier: AGPL-3.0-or-later
"""The trace: a network runs once on a small image, and the labels of its tensors say which channels go together."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.compress.compat.modules import A2C2f
from ultralytics.engine.pruning.graph.heads import HEAD_MARKS, Ends, is_head
from ultralytics.engine.pruning.graph.labels import NONE, Labels
from ultralytics.engine.pruning.graph.mode import FAILURES, FlowMode
from ultralytics.engine.pruning.graph.outputs import flatten, for_a_while, set_in_training
from ultralytics.engine.pruning.graph.places import MAKERS, Number
from ultralytics.nn.extra_modules.prunable_form import PrunableForm
from ultralytics.nn.extra_modules.prunable_parts import LAYER_MARKS
from ultralytics.nn.modules.head import Classify
from ultralytics.utils import TQDM

BEYOND = "its outputs are added to the predictions"
UNREAD = "its outputs are made in training alone, where a loss may read them"
PATIENCE = 5  # seconds without a sign of progress


@dataclass(frozen=True)
class Doubt:
    """An operation that may count on a number of channels.

    Attributes:
        labels (torch.Tensor): Labels of the channels that pass it.
        reason (str): What it is and where.
    """

    labels: torch.Tensor
    reason: str


class Trace(FlowMode):
    """What the channels of a network's layers have to do with each other.

    Labels are numbers of channels. An operation that combines tensors element by element ties the labels that meet,
    and what is unknown leaves the channels whole that enter it.

    Attributes:
        labels (Labels): The channels.
        axes (dict): (layer, axis) to the labels of its channels there, in the order of the forward pass.
        bare (dict): Labels of the parameters and buffers that are used without a layer, each by its id.
        doubts (list[Doubt]): Operations that may count on a number of channels.
        products (list[torch.Tensor]): Labels of the channels in the first factor of every product that sums over them.
        put_out (list[torch.Tensor]): Labels of what the network puts out.
    """

    def __init__(self, model: nn.Module, ends: Ends):
        """Take a network, to be run while the trace is entered.

        Args:
            model (nn.Module): Float model in evaluation mode and prunable form.
            ends (Ends): Where it ends.
        """
        super().__init__(model)
        self.labels = Labels()
        self.labels.whole(BEYOND)
        self.axes: dict[tuple[nn.Module, str], torch.Tensor] = {}
        self.bare: dict[int, torch.Tensor] = {}
        self.doubts: list[Doubt] = []
        self.products: list[torch.Tensor] = []
        self.put_out: list[torch.Tensor] = []
        self._ends = ends
        self._begun, self._bar = time.monotonic(), None
        self._tensors = {id(t) for t in [*model.parameters(), *model.buffers()] if t.numel() > 1}

    def tie(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Let channels go together that meet in an element."""
        self.labels.tie(a, b)

    def hold(self, labels: torch.Tensor, what: str) -> None:
        """Leave channels whole, for a reason to which the block is added."""
        self.labels.keep(labels, f"{what} in {self.where()}")

    def note(self, layer: nn.Module, axis: str, labels: torch.Tensor) -> torch.Tensor:
        """Take down the channels of a layer, and tie them to those of its earlier calls."""
        noted = self.axes.setdefault((layer, axis), labels)
        self.labels.tie(noted, labels)
        return noted

    def made(self, layer: nn.Module, count: int) -> torch.Tensor:
        """Return the labels of channels that a layer makes, the same in each of its calls."""
        if (layer, "out") not in self.axes:
            self.axes[layer, "out"] = self.labels.fresh(count)
        return self.axes[layer, "out"]

    def met(self, labels: torch.Tensor, constant: torch.Tensor) -> None:
        """Leave channels whole that meet other numbers than their neighbours; equal ones may count on their number."""
        dims = [d for d in self.varying(labels) if constant.shape[d] > 1 and constant.stride(d)]
        if any(bool((constant != constant.narrow(d, 0, 1)).any()) for d in dims):
            self.hold(labels, "its outputs meet numbers that no layer makes")
        elif dims:
            self.doubt(labels, "its outputs meet a tensor of their number")

    def told(self, number: int, channels: torch.Tensor) -> None:
        """Note the attributes of the block that may be this number, to be changed with the channels.

        Those of a head that losses and validators read are numbers of predictions.
        """
        marks = {*LAYER_MARKS, *HEAD_MARKS} if is_head(self.block) else LAYER_MARKS
        for name, value in vars(self.block).items():
            held = enumerate(value) if type(value) in (list, tuple) else [(None, value)]  # sizes to split by, or one
            for place, one in held if name not in marks else ():
                if type(one) is int and one == number > 1:
                    self.note(Number(self.block, name, place), "out", channels)

    def doubt(self, labels: torch.Tensor, what: str) -> None:
        """Take note of an operation that may count on a number of channels, which its code does not tell."""
        if not self.is_trusted():
            self.doubts.append(Doubt(labels.unique(), f"{what} in {self.where()}"))

    def multiplied(self, func: Any, args: tuple, factor: int, output: Any) -> None:
        """Take down the channels that a product sums over, of queries if it is an attention's."""
        if not self.is_trusted():
            self.products.append(self.of(args[factor]).unique())

    def leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Apply the rule of a layer that ends, and show progress if all that takes long."""
        super().leave(module, args, kwargs, output)
        if self._bar is None and time.monotonic() - self._begun > PATIENCE:
            self._bar = TQDM(total=len(self.names), desc="Following channels")
        if self._bar is not None:
            self._bar.update(1)

    def close(self) -> None:
        """End the sign of progress."""
        if self._bar is not None:
            self._bar.close()

    def comparable(self, labels: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the smallest label of the class of each label; elements of no channel are like the others."""
        roots = self.labels.roots(labels)
        return torch.where(roots == NONE, roots.amax(dim, keepdim=True), roots)

    def is_trusted(self) -> bool:
        """Return True if the block that is running says itself which channels go together, or counts on no number."""
        return isinstance(self.block, (PrunableForm, A2C2f, Classify, nn.Flatten))

    def begin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Label each element of a parameter that is used without a layer."""
        if id(tensor) not in self._tensors:
            return super().begin(tensor)
        self.bare[id(tensor)] = self.labels.fresh(tensor.numel()).view(tensor.shape)
        return self.bare[id(tensor)]

    def is_labelled(self, tensor: torch.Tensor) -> bool:
        """Return True if some of a tensor's elements belong to a channel."""
        return id(tensor) in self._tensors or super().is_labelled(tensor)

    def passed(self, layer: nn.Module) -> None:
        """Leave the predictions whole, what is made of them, and what else must stay."""
        if layer in self._ends.predictions or self.is_beyond(layer):
            self.labels.keep(self.axes[layer, "out"], BEYOND)
        elif layer in self._ends.fixed:
            self.labels.keep(self.axes[layer, "out"], self._ends.fixed[layer])

    def is_beyond(self, layer: nn.Module) -> bool:
        """Return True for a layer that reads nothing but predictions, of which a stock head makes others."""
        if self._ends.observed:
            return False
        inputs = self.axes.get((layer, "in"))
        return inputs is not None and bool(
            (self.labels.roots(inputs) == self.labels.roots(self.labels.whole(BEYOND))).all()
        )

    def run(self, model: nn.Module, example: torch.Tensor) -> None:
        """Run the network and take down what it puts out."""
        with self:
            output = model(example)
        self.put_out += [self.of(tensor).flatten() for tensor in flatten(output).values()]

    def unreached(self) -> list[nn.Module]:
        """Return the layers that make channels and have not run."""
        return [m for m in self.names if isinstance(m, MAKERS) and (m, "out") not in self.axes]

    def leave_unread(self, layers: list[nn.Module]) -> None:
        """Leave the outputs of those layers whole that no layer reads."""
        outs = {layer: self.axes[layer, "out"] for layer in layers if (layer, "out") in self.axes}
        read = self.labels.roots(torch.cat([labels for (_, axis), labels in self.axes.items() if axis == "in"]))
        for labels in outs.values():
            if not torch.isin(self.labels.roots(labels), read).any():
                self.labels.keep(labels, UNREAD)


def trace(model: nn.Module, ends: Ends, example: torch.Tensor) -> Trace:
    """Run a network once, and as in training for a head of one's own and for layers that inference leaves out.

    Args:
        model (nn.Module): Float model in evaluation mode and prunable form; it is left as it was.
        ends (Ends): Where it ends.
        example (torch.Tensor): Input image of shape (1, C, H, W).

    Returns:
        (Trace): The trace.

    Raises:
        RuntimeError: If the network does not run on the image; it names the module that failed.
    """
    found = Trace(model, ends)
    hooks = found.hook(model)
    try:
        with torch.no_grad():
            found.run(model, example)
            if (rest := found.unreached()) or ends.observed:
                # Whether what fails there matters, the proof of the cut tells.
                with for_a_while(model, set_in_training), suppress(*FAILURES):
                    found.run(model, example)
                found.leave_unread(rest)
    except FAILURES as error:
        raise RuntimeError(
            f"{type(model).__name__} does not run on an image of {example.shape[3]} pixels: {found.where()} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        found.close()
        for hook in hooks:
            hook.remove()
    return found
