# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs of the layers of a network, from one forward pass and the sizes of their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torchvision.ops import DeformConv2d

from ultralytics.engine.pruning.budget.formula import weights_per_output, weights_per_pair
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, WIDTHS, inputs, is_sliced, width
from ultralytics.engine.pruning.graph.widths import paired_inputs

IMGSZ = 640  # pixels at which Ultralytics states GFLOPs
# what Ultralytics' counter (thop) counts beside products, per element; it doubles operations to FLOPs
NORM_FLOPS = {True: 8, False: 4}  # by whether it has a scale and a shift
PRELU_FLOPS = 2
Counts = dict[nn.Module, float]


def layer_flops(model: nn.Module) -> dict[str, float]:
    """Return the FLOPs of every convolution, linear layer and batch norm of one forward pass at 640 pixels.

    Args:
        model (nn.Module): An Ultralytics model, in evaluation mode.

    Returns:
        (dict[str, float]): Layer name to FLOPs, in the order of the forward pass.
    """
    example = example_image(model)
    names = {m: name for name, m in model.named_modules()}
    area, keys = areas_of(model, example)
    return {names[m]: cost_of(m, pixels, keys.get(m, 0)) for m, pixels in area.items()}


def areas_of(model: nn.Module, example: torch.Tensor) -> tuple[Counts, Counts]:
    """Return what one forward pass of an image of 640 pixels has to do.

    It grows with the image, or does not: behind a pooling, or for a fixed number of queries. One of twice the width
    tells.

    Args:
        model (nn.Module): Model in evaluation mode.
        example (torch.Tensor): Image that it takes, of shape (1, C, H, W).

    Returns:
        area (dict[nn.Module, float]): Layer to the pixels or tokens for which it works, summed over its calls.
        keys (dict[nn.Module, float]): Attention to the keys that each of its queries meets.
    """
    small, large = (_pixels(model, example.repeat(1, 1, 1, widths)) for widths in (1, 2))
    t = IMGSZ**2 / example.shape[2:].numel() - 1
    area, keys = ({m: count + t * (more[m] - count) for m, count in less.items()} for less, more in zip(small, large))
    return area, keys


def _pixels(model: nn.Module, image: torch.Tensor) -> tuple[Counts, Counts]:
    """Return the pixels of every layer and the keys of every attention, for an image."""
    area: Counts = {}
    keys: Counts = {}

    def record(layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if isinstance(layer, nn.MultiheadAttention):
            key = args[1] if len(args) > 1 else kwargs["key"]
            keys[layer] = key.shape[-2] if layer.batch_first or key.dim() == 2 else key.shape[0]
        output = args[0] if isinstance(layer, _ConvTransposeNd) else output[0] if isinstance(output, tuple) else output
        channels = inputs(layer) if isinstance(layer, _ConvTransposeNd) else width(layer, "out")
        area[layer] = area.get(layer, 0) + output.numel() / channels

    hooks = [m.register_forward_hook(record, with_kwargs=True) for m in model.modules() if is_counted(m)]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return area, keys


def cost_of(layer: nn.Module, pixels: float, keys: float) -> float:
    """Return the FLOPs of a layer as wide as it is, for so many pixels, and keys if it is an attention."""
    per_output = cost_per_pair(layer) * paired_inputs(layer) + cost_per_output(layer, keys)
    return float(pixels * width(layer, "out") * per_output)


def is_counted(layer: nn.Module) -> bool:
    """Return True for a layer whose FLOPs Ultralytics counts, and depend on channels that it can lose."""
    if isinstance(layer, (DeformConv2d, nn.Embedding)):
        return False
    single = isinstance(layer, nn.PReLU) and layer.num_parameters == 1
    several = isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1
    return (is_sliced(layer) or isinstance(layer, tuple(WIDTHS))) and not single and not several


def cost_per_pair(layer: nn.Module) -> float:
    """Return the FLOPs per pixel, output channel and input channel."""
    return 2 * weights_per_pair(layer)


def cost_per_output(layer: nn.Module, keys: float) -> float:
    """Return the FLOPs per pixel and output channel.

    Args:
        layer (nn.Module): Layer.
        keys (float): Keys that each query meets, if it is an attention.
    """
    if isinstance(layer, nn.MultiheadAttention):
        return 4 * keys  # two products over all pairs
    if isinstance(layer, nn.PReLU):
        return PRELU_FLOPS
    return 2 * weights_per_output(layer) if isinstance(layer, MAKERS) else NORM_FLOPS[layer.weight is not None]
