# SPDX-License-Identifier: AGPL-3.0-or-later
"""The shapes of a network's convolutions, by which their time is measured and kept."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn

from ultralytics.engine.pruning.graph.image_size import image_channels
from ultralytics.engine.pruning.graph.places import is_depthwise

Widths = dict[str, list[list[int]]]  # layer name to inputs and outputs at each of its calls
WARMUP, REPEATS = 2, 8  # runs of a convolution that do not count, and runs of which the fastest counts


class ConvShape(NamedTuple):
    """A convolution with its activation, at one image size.

    Attributes:
        inputs (int): Input channels.
        outputs (int): Output channels.
        kernel (tuple[int, int]): Kernel size.
        stride (tuple[int, int]): Stride.
        padding (tuple[int, int]): Padding.
        dilation (tuple[int, int]): Dilation.
        depthwise (bool): Every channel by itself.
        transposed (bool): A transposed convolution.
        activation (str): Class of the activation that follows, or ''.
        height (int): Height of its input in pixels.
        width (int): Width of its input in pixels.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    depthwise: bool
    transposed: bool
    activation: str
    height: int
    width: int

    def resized(self, inputs: int, outputs: int) -> ConvShape:
        """Return the same convolution with other numbers of channels."""
        return self._replace(inputs=inputs, outputs=outputs)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Return channels, height and width of the input."""
        return self.outputs if self.depthwise else self.inputs, self.height, self.width

    @property
    def weights(self) -> int:
        """Return the number of weights."""
        return math.prod(self.kernel) * self.outputs * (1 if self.depthwise else self.inputs)

    @property
    def key(self) -> str:
        """Return the shape as one word, i.e. 'conv-32-64-k3x3-s2x2-p1x1-d1x1-SiLU-80x80'."""
        kind = "transposed" if self.transposed else "depthwise" if self.depthwise else "conv"
        sizes = (f"{n}{v[0]}x{v[1]}" for n, v in zip("kspd", (self.kernel, self.stride, self.padding, self.dilation)))
        words = (kind, str(self.inputs), str(self.outputs), *sizes, self.activation, f"{self.height}x{self.width}")
        return "-".join(word for word in words if word)


def conv_shapes(model: nn.Module, imgsz: int) -> dict[str, list[ConvShape]]:
    """Return the shape of every convolution at each of its calls in one forward pass of the deployed model.

    Grouped convolutions other than depthwise ones are left out, as are linear layers and the branch of an end-to-end
    head that is there for training: it runs in evaluation mode as well, until the model is fused.

    Args:
        model (nn.Module): Stock model in evaluation mode.
        imgsz (int): Image size in pixels.

    Returns:
        (dict[str, list[ConvShape]]): Layer name to shapes, in the order of the forward pass.
    """
    shapes: dict[str, list[ConvShape]] = {}
    modules = dict(model.named_modules())
    names = {m: name for name, m in modules.items()}

    def record(conv: nn.Conv2d, inputs: tuple, _: torch.Tensor) -> None:
        act = getattr(modules[names[conv].rpartition(".")[0]], "act", None)
        shape = ConvShape(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            is_depthwise(conv),
            isinstance(conv, nn.ConvTranspose2d),
            type(act).__name__ if isinstance(act, (nn.SiLU, nn.ReLU)) else "",
            *inputs[0].shape[2:],
        )
        shapes.setdefault(names[conv], []).append(shape)

    convs = (m for m in names if type(m) in (nn.Conv2d, nn.ConvTranspose2d) and (m.groups == 1 or is_depthwise(m)))
    dropped = dropped_by_fusing(model)
    hooks = [m.register_forward_hook(record) for m in convs if names[m] not in dropped]
    image = torch.zeros(1, image_channels(model), imgsz, imgsz, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def dropped_by_fusing(model: nn.Module) -> set[str]:
    """Return the names of the modules of an end-to-end head that fusing, as every export does, takes away.

    Older releases of Ultralytics take nothing away.

    Args:
        model (nn.Module): Stock model.
    """
    head = model.model[-1]
    if not hasattr(head, "one2one_cv2") or not hasattr(head, "fuse"):
        return set()
    deployed = deepcopy(head)
    deployed.fuse()
    left = {name for name, _ in deployed.named_modules()}
    return {f"model.{len(model.model) - 1}.{name}" for name, _ in head.named_modules() if name not in left}


def widths_of(shapes: dict[str, list[ConvShape]]) -> Widths:
    """Return the widths alone of convolutions, `conv_shapes`, as JSON can hold them."""
    return {name: [[shape.inputs, shape.outputs] for shape in calls] for name, calls in shapes.items()}


def with_widths(shapes: dict[str, list[ConvShape]], widths: Widths) -> dict[str, list[ConvShape]]:
    """Return convolutions with other widths.

    Args:
        shapes (dict[str, list[ConvShape]]): Convolutions of a dense model, `conv_shapes`.
        widths (Widths): Widths of the same layers after pruning, `widths_of`.

    Raises:
        ValueError: If they are those of other layers.
    """
    if {name: len(calls) for name, calls in shapes.items()} != {name: len(calls) for name, calls in widths.items()}:
        raise ValueError("the widths are those of another model.")
    return {name: [s.resized(*pair) for s, pair in zip(shapes[name], widths[name])] for name in shapes}
