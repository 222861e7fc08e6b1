# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs as a formula of the channels kept, and as Ultralytics counts them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torchvision.ops import DeformConv2d

from ultralytics.engine.pruning.budget.formula import ChannelFormula, weights_per_output, weights_per_pair
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.heads import find_ends
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, WIDTHS, is_sliced, width
from ultralytics.engine.pruning.graph.widths import paired_inputs
from ultralytics.nn.extra_modules.prunable import products, prunable_copy
from ultralytics.nn.modules.block import Attention
from ultralytics.utils.torch_utils import get_flops

IMGSZ = 640  # pixels at which Ultralytics states GFLOPs
# what Ultralytics' counter (thop) counts beside products, per element; it doubles operations to FLOPs
NORM_FLOPS = {True: 8, False: 4}  # by whether it has a scale and a shift
PRELU_FLOPS = 2


def count_flops(model: nn.Module) -> float:
    """Return the GFLOPs that Ultralytics prints for a model, `get_flops`, or our own sum if that leaves attention out.

    Args:
        model (nn.Module): An Ultralytics model.

    Returns:
        (float): GFLOPs, two FLOPs per multiply-accumulate.

    Raises:
        RuntimeError: If Ultralytics' counter fails, which it reports as zero.
    """
    if not counts_attention():
        return sum_flops(model)
    flops = get_flops(model, IMGSZ)
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
    if find_ends(model).anchors > 1:  # a decoder's queries do not grow with the image
        example = example.new_zeros(*example.shape[:2], IMGSZ, IMGSZ)
    area = _areas(model, example)
    layers = sum(_cost(m, pixels) for m, pixels in area.items())
    return (layers + sum(width(conv, "out") * cost * area[conv] ** 2 for conv, cost in products(model))) / 1e9


class FlopsFormula(ChannelFormula):
    """FLOPs of a network at 640 pixels as a function of how many units each group keeps.

    With o and i the output and input channels of a layer, which are linear in the units kept n, a convolution costs
    2·H·W·k²·o·i/g in g groups (transposed: H·W of its input), one that loses whole groups 2·H·W·k²·o·i/g with i/g fixed
    (a depthwise convolution: 2·H·W·k²·o), a linear layer 2·o·i per pixel, a
    norm 8·H·W·o, an attention product over all pairs of pixels 2·(H·W)²·o, and nn.MultiheadAttention 8·H·W·o·i with
    o = i and two such products. This is what Ultralytics' counter
    (thop) adds up; what else it counts does not depend on n and is taken from its own figure.

    Attributes:
        dense (float): FLOPs with every unit kept.
        rest (float): What Ultralytics counts beyond the layers and products above.
    """

    def __init__(self, graph: Graph):
        """Measure every layer's output size with one forward pass and set up the formula.

        Args:
            graph (Graph): Graph of the network.

        Raises:
            RuntimeError: If Ultralytics' counter fails.
        """
        area = _areas(graph.model, graph.example)
        terms = {m: (_cost_per_pair(m) * pixels, _cost_per_output(m, pixels) * pixels) for m, pixels in area.items()}
        for conv, cost in products(graph.model):
            pairwise, single = terms[conv]
            terms[conv] = pairwise, single + cost * area[conv] ** 2
        super().__init__(terms, graph.groups, count_flops(graph.model) * 1e9)


def layer_flops(model: nn.Module) -> dict[str, float]:
    """Return the FLOPs of every convolution, linear layer and batch norm of one forward pass at 640 pixels.

    Args:
        model (nn.Module): An Ultralytics model, in evaluation mode.

    Returns:
        (dict[str, float]): Layer name to FLOPs, in the order of the forward pass.
    """
    example = example_image(model)
    names = {m: name for name, m in model.named_modules()}
    return {names[m]: _cost(m, pixels) for m, pixels in _areas(model, example).items()}


def _areas(model: nn.Module, example: torch.Tensor) -> dict[nn.Module, float]:
    """Return for how many pixels every layer works in an image of 640, summed over the calls of one forward pass."""
    area: dict[nn.Module, float] = {}
    scale = IMGSZ**2 / example.shape[2:].numel()

    def record(layer: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(layer, (nn.Linear, nn.MultiheadAttention)):
            output = output[0] if isinstance(output, tuple) else output
            pixels = output.shape[:-1].numel() * (scale if output.dim() > 2 else 1)  # 2: pooled features
        elif isinstance(layer, MAKERS):
            pixels = scale * (args[0] if isinstance(layer, _ConvTransposeNd) else output).shape[2:].numel()
        else:
            pixels = scale * output.numel() / width(layer, "out")
        area[layer] = area.get(layer, 0) + pixels

    hooks = [m.register_forward_hook(record) for m in model.modules() if is_counted(m)]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return area


def _cost(layer: nn.Module, pixels: float) -> float:
    """Return the FLOPs of a layer as wide as it is, for so many pixels."""
    per_output = _cost_per_pair(layer) * paired_inputs(layer) + _cost_per_output(layer, pixels)
    return float(pixels * width(layer, "out") * per_output)


def is_counted(layer: nn.Module) -> bool:
    """Return True for a layer whose FLOPs Ultralytics counts, and depend on channels that it can lose."""
    if isinstance(layer, (DeformConv2d, nn.Embedding)):
        return False
    single = isinstance(layer, nn.PReLU) and layer.num_parameters == 1
    several = isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1
    return (is_sliced(layer) or isinstance(layer, tuple(WIDTHS))) and not single and not several


def _cost_per_pair(layer: nn.Module) -> float:
    """Return the FLOPs per pixel, output channel and input channel."""
    return 2 * weights_per_pair(layer)


def _cost_per_output(layer: nn.Module, area: float) -> float:
    """Return the FLOPs per pixel and output channel.

    Args:
        layer (nn.Module): Layer.
        area (float): Pixels of an image of 640 for which it works.
    """
    if isinstance(layer, nn.MultiheadAttention):
        return 4 * area  # two products over all pairs of pixels
    if isinstance(layer, nn.PReLU):
        return PRELU_FLOPS
    return 2 * weights_per_output(layer) if isinstance(layer, MAKERS) else NORM_FLOPS[layer.weight is not None]
