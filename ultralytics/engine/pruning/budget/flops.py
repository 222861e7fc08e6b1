# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs of a network as Ultralytics counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import torch
from torch import nn

from ultralytics.engine.pruning.budget.layer_flops import IMGSZ, areas_of, cost_of
from ultralytics.engine.pruning.budget.products import extrapolate
from ultralytics.engine.pruning.graph.image_size import example_image, image_channels
from ultralytics.engine.pruning.graph.memory import largest_tensor
from ultralytics.engine.pruning.graph.outputs import for_a_while, runs
from ultralytics.engine.pruning.graph.places import width
from ultralytics.nn.extra_modules.prunable import products, prunable_copy
from ultralytics.nn.modules.block import Attention
from ultralytics.utils.torch_utils import get_flops

LARGEST = 9 * 2**28  # bytes of a tensor, several of which an attention over all pixels holds at a time


def count_flops(model: nn.Module) -> float:
    """Return the GFLOPs that Ultralytics prints for a model, `get_flops`, or our own sum where that cannot tell.

    It cannot where it leaves attention out, or takes the images for as wide as what the first layer reads, which a
    Focus makes of them.

    Ultralytics counts while the model runs on uninitialised memory, whose values can be NaN or far out of range;
    torchvision's deformable convolution ends the process on sampling offsets that come of it. Here the model gets
    zeros, which count the same.

    Its counter runs small images and, where those do not tell, the large one, in which attention over all pixels of an
    early layer would take tens of gigabytes. Such a model is counted in images of growing width instead.

    Args:
        model (nn.Module): An Ultralytics model.

    Returns:
        (float): GFLOPs, two FLOPs per multiply-accumulate.

    Raises:
        RuntimeError: If Ultralytics' counter fails, which it reports as zero.
    """
    if any(p.dtype == torch.float16 for p in model.parameters()):  # which older releases of torch run on no CPU
        model = deepcopy(model).float()
    first = next(model.parameters())
    if not counts_attention() or first.dim() < 2 or first.shape[1] != image_channels(model):
        return sum_flops(model)
    large = _LargeImages()
    with _prepared(model, large.refuse):
        flops = get_flops(model, IMGSZ)
    if large.refused:
        flops = _count_directly(model)
    if not flops and not _runs_at_full_size(model):
        return sum_flops(model)
    if not flops:
        raise RuntimeError(
            f"Ultralytics' get_flops failed on {type(model).__name__} and returned 0.0: "
            "check that 'ultralytics-thop' is installed and that the model runs at this image size"
        )
    return flops


@cache
def counts_attention() -> bool:
    """Return True if Ultralytics' counter counts the products of attention, which grow with the square of the pixels.

    One that fails is none of the older ones, which leave them out.
    """
    probe = nn.Sequential(nn.Conv2d(3, 32, 1), Attention(32, num_heads=1))
    small, large = (get_flops(probe, size) for size in (64, 128))
    return not small or large > 4.1 * small  # 4 times the pixels


def sum_flops(model: nn.Module) -> float:
    """Return the GFLOPs of the layers and attention products of a model: what Ultralytics' present counter returns.

    Args:
        model (nn.Module): An unfused Ultralytics model.

    Returns:
        (float): GFLOPs at 640 pixels; without the attention of a decoder, which is never pruned.
    """
    model = prunable_copy(model)
    example = example_image(model)
    area, keys = areas_of(model, example)
    layers = sum(cost_of(m, pixels, keys.get(m, 0)) for m, pixels in area.items())
    return (layers + sum(width(m, "out") * cost * area[m] * area[other] for m, other, cost in products(model))) / 1e9


def _runs_at_full_size(model: nn.Module) -> bool:
    """Return True if a model runs at 640 pixels; blocks of one's own may take other sizes alone."""
    with for_a_while(model, nn.Module.eval):
        return runs(model, example_image(model).new_zeros(1, image_channels(model), IMGSZ, IMGSZ))


def _count_directly(model: nn.Module) -> float:
    """Return the GFLOPs of a model that the counter cannot tell from its own small images, or 0 if it fails."""
    example = example_image(model)
    height, width = example.shape[2:]
    with for_a_while(model, nn.Module.eval):
        fits = largest_tensor(model, example)(IMGSZ**2) <= LARGEST
    with _prepared(model, _fill_with_zeros):
        if fits:
            return get_flops(model, IMGSZ)
        samples = [get_flops(model, (height, width * widths)) for widths in (1, 2, 3)]
    estimate = extrapolate(samples, IMGSZ**2 / (height * width)) if all(samples) else 0.0
    return estimate if estimate > max(samples) else 0.0  # windows that are padded grow in steps, which no square fits


class _LargeImages:
    """Fills images with zeros and refuses those of the full size.

    Attributes:
        refused (bool): There was one.
    """

    def __init__(self):
        """Begin with none."""
        self.refused = False

    def refuse(self, model: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """Fill an image with zeros, or end the forward pass.

        Raises:
            ValueError: If it is too large; Ultralytics' counter takes that for a count that failed.
        """
        if args[0].shape[2:].numel() >= IMGSZ**2:
            self.refused = True
            raise ValueError(f"An image of {tuple(args[0].shape[2:])} is not run before its memory is known.")
        _fill_with_zeros(model, args)


@contextmanager
def _prepared(model: nn.Module, prepare: Callable[[nn.Module, tuple[torch.Tensor, ...]], None]) -> Iterator[None]:
    """Let a function prepare, in place, every image that a model is given."""
    hook = model.register_forward_pre_hook(prepare)
    try:
        yield
    finally:
        hook.remove()


def _fill_with_zeros(_model: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    args[0].zero_()
