# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check after every cut: one forward pass against the masked dense model, which names the first layer that differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ultralytics.engine.pruning.checkpoint.releases import is_known
from ultralytics.engine.pruning.graph.heads import stock_ends
from ultralytics.engine.pruning.graph.image_size import example_image, image_stride
from ultralytics.engine.pruning.graph.memory import largest_tensor
from ultralytics.engine.pruning.graph.mode import FAILURES
from ultralytics.engine.pruning.graph.outputs import runs, set_in_training
from ultralytics.engine.pruning.graph.places import is_sliced, outputs
from ultralytics.engine.pruning.surgery.oracle import Channels, mask, raw_outputs, relative_difference

TOLERANCE = (
    1e-3  # of an output's largest value; rounding to FP32 alone makes up to 6e-6 of it in Ultralytics' own models
)
PRECISIONS = (torch.float32, torch.float64)  # and 1e-4 in random ones, so that only the slower one speaks a verdict
SEED = 0  # of the image
LARGE = ((512, 768), (256, 512))  # pixels of large images: at a stride of 32, maps of 16 x 24 cells or of 8 x 16
LARGEST = 2**26  # bytes of a tensor on a large image, of which attention over all pixels holds several

Outputs = dict[str, list[torch.Tensor]]  # layer to what it put out in each of its calls, in the order of the first ones


class WrongCutError(RuntimeError):
    """A pruned network that does not compute what the masked dense one does.

    Attributes:
        layer (str): The first layer, in the order of the forward pass, whose output is another.
    """

    layer = ""


def prove_cut(dense: nn.Module, pruned: nn.Module, channels: Channels, in_doubt: bool = False) -> None:
    """Compare a pruned network, before anything else is done to it, with the dense one whose channels are masked.

    Both run once on the same random image, the smallest that they take, in FP32 on the CPU: there the arithmetic is
    not rounded to TF32 or FP16, whatever the device and the precision of the models. What differs in FP32 is compared
    once more in FP64. Code that nobody knows may do on larger maps what it does not on small ones, so that models with
    classes of others are compared on a large image as well. Then the pruned model runs once as in training, where it
    may have layers of its own. Neither model is changed.

    Args:
        dense (nn.Module): Stock model that was cut.
        pruned (nn.Module): What the cut made of it, of stock classes.
        channels (Channels): What `History.channels` returned: the channels kept, as indices into the dense model.
        in_doubt (bool): Code counts on numbers that trial cuts took for those of channels: compare on a large image,
            whosever it is.

    Raises:
        ValueError: If the dense model's own outputs are not finite.
        WrongCutError: If an output differs by more than `TOLERANCE`, or the pruned model does not run; it names the
            first layer whose output is another.
    """
    image = random_image(example_image(dense).shape)
    _prove_on(image, dense, pruned, channels)
    if (in_doubt or not is_known(dense)) and (large := large_image(dense)) is not None:
        _prove_on(large, dense, pruned, channels)
    if not runs(_in_training(pruned), image):
        wanted, got = (layer_outputs(_in_training(m), image, channels, nn.Module.__call__) for m in (dense, pruned))
        if lacking := next((name for name in wanted if len(got[name]) < len(wanted[name])), ""):
            raise _error("in training, the pruned model does not run", lacking)


def check_repeatable(model: nn.Module) -> None:
    """Check that a model computes the same twice, without which no cut can be proved.

    Args:
        model (nn.Module): Dense model; it is left as it was.

    Raises:
        ValueError: If it does not; it names the first layer behind what is random.
    """
    image = random_image(example_image(model).shape)
    copy = _on_cpu(model, torch.float32)
    names: Channels = {name: {} for name, m in copy.named_modules() if is_sliced(m)}
    first, again = (layer_outputs(deepcopy(copy), image, names) for _ in range(2))
    for name, calls in first.items():
        if any(y.shape != z.shape or relative_difference(z, y) > TOLERANCE for y, z in zip(calls, again[name])):
            raise ValueError(
                f"the model computes something else each time in evaluation, first in what '{name}' reads. Make it "
                "repeatable, i.e. pass training=self.training to a dropout."
            )


def random_image(shape: Sequence[int]) -> torch.Tensor:
    """Return the image of a shape on which models are compared, the same in every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(SEED))


def large_image(model: nn.Module) -> torch.Tensor | None:
    """Return a random image that is large, or else wider than high.

    Args:
        model (nn.Module): An Ultralytics model; it is left as it was.

    Returns:
        (torch.Tensor | None): Image of shape (1, C, H, W), on the CPU: the largest one that the model runs on without
            large tensors, None if there is none.
    """
    copy, example = _on_cpu(model, torch.float32), example_image(model).cpu()
    batch, channels, height, width = example.shape
    if not runs(copy, example.repeat(1, 1, 1, 2)):
        return None  # it is made for one size
    largest = largest_tensor(copy, example, labelled=True)
    for size in (*LARGE, (height, width + 3 * image_stride(model))):
        image = random_image((batch, channels, *size))
        if largest(image.shape[2:].numel()) <= LARGEST and runs(copy, image):
            return image
    return None


def watched(model: nn.Module, names: Iterable[str]) -> Outputs:
    """Let layers of a model, which is thrown away afterwards, write down what they put out in each of their calls.

    Args:
        model (nn.Module): Model; hooks stay on it.
        names (Iterable[str]): Names of the layers.

    Returns:
        (dict[str, list[torch.Tensor]]): Layer to its outputs; empty until the model runs.
    """
    found: Outputs = defaultdict(list)
    for name in names:
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda _layer, _args, output, name=name: found[name].append(output))
    return found


def _prove_on(image: torch.Tensor, dense: nn.Module, pruned: nn.Module, channels: Channels) -> None:
    """Compare on one image, see `prove_cut`."""
    ends = _own_ends(dense, channels)
    for precision in PRECISIONS:
        expected, x = mask(_on_cpu(dense, precision), channels), image.to(precision)
        if precision is not PRECISIONS[0] and not runs(expected, x):
            break  # code for one precision alone: the first verdict holds
        case = _on_cpu(pruned, precision), expected, x
        finding, cause = _compare(*case, ends)
        if not finding:
            return
    raise _error(finding, first_difference(*case, channels)) from cause


def _error(finding: str, layer: str) -> WrongCutError:
    """Return the error for what is wrong with a cut, and the first layer whose output is another."""
    error = WrongCutError(
        f"the cut is wrong and nothing was saved: {finding}. The first layer whose output is not what the dense model "
        f"computes with the pruned channels masked is '{layer}'. Something in its block, or between it and the layers "
        "before it, uses channels in a way that the dependency graph does not see: put a stock block in its place, or "
        "give the block a prunable form (ultralytics.nn.extra_modules)."
    )
    error.layer = layer
    return error


def _own_ends(dense: nn.Module, channels: Channels) -> list[str]:
    """Return the layers of a head of one's own that keep all outputs, to be compared beside what is made of them.

    Of scores and of boxes in pixels in one tensor, wrong scores would be within the tolerance.
    """
    if stock_ends(dense):
        return []
    head = f"model.{len(dense.model) - 1}."
    layers = dict(dense.named_modules())
    return [k for k, kept in channels.items() if k.startswith(head) and len(kept["out"]) == outputs(layers[k])]


def _compare(
    model: nn.Module, reference: nn.Module, image: torch.Tensor, ends: Sequence[str]
) -> tuple[str, Exception | None]:
    """Return what is wrong with a model's outputs, or an empty string, and the exception that says so if one does."""
    expected = _outputs(reference, image, ends)
    if broken := [name for name, value in expected.items() if not value.isfinite().all()]:
        raise ValueError(
            f"the model's outputs ({', '.join(broken[:3])}) on an image of random pixels are not finite. Check its "
            "weights: it has diverged or is damaged."
        )
    try:
        actual = _outputs(model, image, ends)
    except FAILURES as error:
        return f"the pruned model does not run ({error})", error
    shapes = {name: value.shape for name, value in actual.items()}
    if others := [name for name, value in expected.items() if shapes.get(name) != value.shape]:
        return f"output '{others[0]}' is missing or has another shape", None
    if broken := [name for name in expected if not actual[name].isfinite().all()]:
        return f"output '{broken[0]}' is not finite", None
    differences = {name: relative_difference(actual[name], value) for name, value in expected.items()}
    worst = max(differences, key=differences.__getitem__)
    if differences[worst] <= TOLERANCE:
        return "", None
    return f"output '{worst}' differs by {differences[worst]:.1e} of its largest value, tolerance {TOLERANCE}", None


def first_difference(pruned: nn.Module, reference: nn.Module, image: torch.Tensor, channels: Channels) -> str:
    """Return the first layer, in the order of the forward pass, whose outputs are not those of the masked dense model.

    Args:
        pruned (nn.Module): Pruned model, on the CPU and in evaluation mode.
        reference (nn.Module): Masked dense model, likewise.
        image (torch.Tensor): Image of shape (1, C, H, W).
        channels (Channels): Layers to the channels that they keep.

    Returns:
        (str): Its name. The last layer where all are equal, and what lies behind it differs.
    """
    wanted, got = (layer_outputs(model, image, channels) for model in (reference, pruned))
    name = ""
    for name, calls in wanted.items():
        kept = channels[name]["out"]
        linear = isinstance(reference.get_submodule(name), nn.Linear)
        expected = [y[..., kept] if linear else y[:, kept] for y in calls]
        if [y.shape for y in got.get(name, ())] != [y.shape for y in expected]:
            return name
        if not all(relative_difference(y, value) <= TOLERANCE for y, value in zip(got[name], expected)):
            return name
    return name


def layer_outputs(
    model: nn.Module,
    image: torch.Tensor,
    channels: Channels,
    run: Callable[[nn.Module, torch.Tensor], Any] = raw_outputs,
) -> Outputs:
    """Return what every layer puts out in each of its calls in one forward pass, or in as much of it as succeeds.

    Args:
        model (nn.Module): Model.
        image (torch.Tensor): Image of shape (1, C, H, W).
        channels (Channels): The layers.
        run (Callable): Runs the model.
    """
    found = watched(model, channels)
    with torch.no_grad(), suppress(*FAILURES):  # what is missing is the finding
        run(model, image)
    return found


def _outputs(model: nn.Module, image: torch.Tensor, ends: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return what a model puts out, and some of its layers in each of their calls."""
    found = watched(model, ends)
    return {
        **raw_outputs(model, image),
        **{f"{name} ({i})": y for name, calls in found.items() for i, y in enumerate(calls)},
    }


def _on_cpu(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Return a copy in evaluation mode that shares the tensors which are on the CPU in this precision already."""
    tensors = [*model.parameters(), *model.buffers()]
    shared = {id(t): nn.Parameter(t.detach(), False) if isinstance(t, nn.Parameter) else t.detach() for t in tensors}
    return deepcopy(model, shared).cpu().to(precision).eval()


def _in_training(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in FP32, that runs as in training; nothing of it is shared, as a block may write."""
    return set_in_training(deepcopy(model).cpu().float())
