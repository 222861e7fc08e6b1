# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs as a formula of the channels kept, and as Ultralytics counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torchvision.ops import DeformConv2d

from ultralytics.engine.pruning.budget.formula import ChannelFormula, weights_per_output, weights_per_pair
from ultralytics.engine.pruning.budget.memory import largest_tensor
from ultralytics.engine.pruning.budget.products import extrapolate, product_flops
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, WIDTHS, inputs, is_sliced, width
from ultralytics.engine.pruning.graph.widths import paired_inputs
from ultralytics.nn.extra_modules.prunable import forms, products, prunable_copy
from ultralytics.nn.modules.block import Attention
from ultralytics.utils.torch_utils import get_flops

IMGSZ = 640  # pixels at which Ultralytics states GFLOPs
# what Ultralytics' counter (thop) counts beside products, per element; it doubles operations to FLOPs
NORM_FLOPS = {True: 8, False: 4}  # by whether it has a scale and a shift
PRELU_FLOPS = 2
Counts = dict[nn.Module, float]
LARGEST = 9 * 2**28  # bytes of a tensor, several of which an attention over all pixels holds at a time
ESTIMATED = 1e-3  # share of the FLOPs outside all layers from which on products are looked for


def count_flops(model: nn.Module) -> float:
    """Return the GFLOPs that Ultralytics prints for a model, `get_flops`, or our own sum if that leaves attention out.

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
    if not counts_attention():
        return sum_flops(model)
    large = _LargeImages()
    with _prepared(model, large.refuse):
        flops = get_flops(model, IMGSZ)
    if large.refused:
        flops = _count_directly(model)
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
    area, keys = _areas(model, example)
    layers = sum(_cost(m, pixels, keys.get(m, 0)) for m, pixels in area.items())
    return (layers + sum(width(m, "out") * cost * area[m] * area[other] for m, other, cost in products(model))) / 1e9


def _count_directly(model: nn.Module) -> float:
    """Return the GFLOPs of a model that the counter cannot tell from its own small images, or 0 if it fails."""
    example = example_image(model)
    height, width = example.shape[2:]
    with _in_evaluation(model):
        fits = largest_tensor(model, example, IMGSZ**2) <= LARGEST
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


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into its own afterwards."""
    modes = {m: m.training for m in model.modules()}
    try:
        yield model.eval()
    finally:
        for m, training in modes.items():
            m.training = training


def _fill_with_zeros(_model: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    args[0].zero_()


class FlopsFormula(ChannelFormula):
    """FLOPs of a network at 640 pixels as a function of how many units each group keeps.

    With o and i the output and input channels of a layer, which are linear in the units kept n, a convolution costs
    2·H·W·k²·o·i/g in g groups (transposed: H·W of its input), one that loses whole groups 2·H·W·k²·o·i/g with i/g fixed
    (a depthwise convolution: 2·H·W·k²·o), a linear layer 2·o·i per pixel, a
    norm 8·H·W·o, an attention product over all pairs of pixels 2·(H·W)²·o, and nn.MultiheadAttention 8·H·W·o·i with
    o = i and two such products. This is what Ultralytics' counter (thop) adds up. Products in a block without prunable
    form are taken to follow the outputs of its layers, which is an estimate; what else it counts does not depend on n
    and is taken from its own figure.

    Attributes:
        dense (float): FLOPs with every unit kept.
        is_exact (bool): The layers and products above are all that Ultralytics counts.
        rest (float): What Ultralytics counts beyond the layers and products above.
    """

    outside = "it is no convolution, linear layer, norm or attention"

    def __init__(self, graph: Graph):
        """Measure every layer's output size with one forward pass and set up the formula.

        Args:
            graph (Graph): Graph of the network.

        Raises:
            RuntimeError: If Ultralytics' counter fails.
        """
        area, keys = _areas(graph.model, graph.example)
        terms = {m: (_cost_per_pair(m) * n, _cost_per_output(m, keys.get(m, 0)) * n) for m, n in area.items()}
        for layer, other, cost in products(graph.model):
            pairwise, single = terms[layer]
            terms[layer] = pairwise, single + cost * area[layer] * area[other]
        total = count_flops(graph.model) * 1e9
        super().__init__(terms, graph.groups, total, "FLOPs")
        self.is_exact = abs(self.rest) < ESTIMATED * total
        if not self.is_exact:
            self._estimate_products(graph)
            if self.rest < 0:  # a window may be padded in a small image and not in a large one
                share = total / (total - self.rest)
                self._pairwise, self._single, self.rest = self._pairwise * share, self._single * share, 0.0
            self.dense = float(self(self.widths.sizes))

    def _estimate_products(self, graph: Graph) -> None:
        """Let products in blocks without prunable form follow the outputs of their layers."""
        row = {layer: i for i, layer in enumerate(self.layers)}
        known = {form for form in forms(graph.model) if any(True for _ in form.products())}
        dense = self.widths(self.widths.sizes)[0]
        for block, flops in product_flops(graph.model, graph.example, IMGSZ**2).items():
            rows = [row[m] for m in block.modules() if m in row and isinstance(m, MAKERS)]
            if rows and block not in known:
                self._single[rows] += flops / dense[rows].sum()
                self.rest -= flops


def layer_flops(model: nn.Module) -> dict[str, float]:
    """Return the FLOPs of every convolution, linear layer and batch norm of one forward pass at 640 pixels.

    Args:
        model (nn.Module): An Ultralytics model, in evaluation mode.

    Returns:
        (dict[str, float]): Layer name to FLOPs, in the order of the forward pass.
    """
    example = example_image(model)
    names = {m: name for name, m in model.named_modules()}
    area, keys = _areas(model, example)
    return {names[m]: _cost(m, pixels, keys.get(m, 0)) for m, pixels in area.items()}


def _areas(model: nn.Module, example: torch.Tensor) -> tuple[Counts, Counts]:
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


def _cost(layer: nn.Module, pixels: float, keys: float) -> float:
    """Return the FLOPs of a layer as wide as it is, for so many pixels, and keys if it is an attention."""
    per_output = _cost_per_pair(layer) * paired_inputs(layer) + _cost_per_output(layer, keys)
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


def _cost_per_output(layer: nn.Module, keys: float) -> float:
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
