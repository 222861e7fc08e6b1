# SPDX-License-Identifier: AGPL-3.0-or-later
"""Weights of a pruned network, fitted again to what the dense one computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.utils import LOGGER

ROWS = 20_000  # pixels of a layer's output to which it is fitted, at most
RIDGE = 1e-3  # of the variance of a layer's inputs: holds weights of which the images say nothing where they are
TINY = 1e-12  # ridge of a layer whose inputs are all constant

Channels = Mapping[str, Mapping[str, Sequence[int]]]  # as a `Record` has them


class Goal(NamedTuple):
    """What a convolution should put out.

    Attributes:
        pixels (torch.Tensor): Where, as indices of all pixels of its output, shape (rows,).
        outputs (torch.Tensor): What the dense one puts out there, shape (rows, channels).
    """

    pixels: torch.Tensor
    outputs: torch.Tensor


def refit(dense: nn.Module, pruned: nn.Module, record: Record, images: torch.Tensor) -> Record:
    """Fit the convolutions of a pruned network to the outputs that they have in the dense one, in place.

    A convolution that has lost inputs can make up for some by those that are left. From the first to the last, each
    gets the weights W that bring W·x nearest to the dense outputs of its channels, where x are its inputs in the pruned
    network as it has become so far: least squares over the pixels of some images, with a ridge towards the weights as
    they are (like He et al., ICCV 2017, arXiv 1707.06168, who fit each layer to the dense outputs after its cut). The
    constants go to the bias, or to the batch norm behind, whose statistics are the dense ones again.

    Left as they are: convolutions that are called several times, that have neither a bias nor a batch norm behind,
    whose weights the cut has scaled, and whose padding is no number of zeros.

    Args:
        dense (nn.Module): The model before the cut, in evaluation mode.
        pruned (nn.Module): The model after it, FP32, changed in place; it is in evaluation mode afterwards.
        record (Record): Record of the cut.
        images (torch.Tensor): Images of shape (B, C, H, W), on the models' device: dozens, as the network meets them.

    Returns:
        (Record): The record, which says that the model was fitted.

    Examples:
        >>> pruned, record = prune_model(dense, Budget(speed_up=1.5), prune_method="lamp")
        >>> record = refit(dense, pruned, record, images)
    """
    pruned.eval()
    channels = record.channels
    targets, norms = dict(dense.named_modules()), _norms_behind(pruned, images[:1])
    layers = {
        name: m
        for name, m in pruned.named_modules()
        if isinstance(m, nn.Conv2d) and m.padding_mode == "zeros" and isinstance(m.padding, tuple)
        if (m.bias is not None or name in norms) and _is_slice(m, targets[name], channels.get(name, {}))
    }
    goals, fitted = _goals({name: targets[name] for name in layers}, channels, dense, images), 0

    def fit(name: str, x: torch.Tensor) -> None:
        nonlocal fitted
        goal, layer = goals.pop(name, None), layers[name]
        if goal is None:
            return
        weight, shift = least_squares(layer, _patches(layer, x, goal.pixels), goal.outputs)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(shift)
        else:
            norm = norms[name]
            _take_over(pruned.get_submodule(norm), targets[norm], channels.get(name, {}).get("out"), shift)
        fitted += 1

    with torch.no_grad(), _watched(layers, lambda name, args, _: fit(name, args[0]), before=True):
        pruned(images)
    LOGGER.info(f"{fitted} convolutions were fitted to their outputs in the dense model")
    return replace(record, refitted=True)


def least_squares(layer: nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights and the shifts that bring W·x + shift nearest to y, see `refit`.

    Args:
        layer (nn.Conv2d): Convolution of g groups and o outputs; its weights are what the ridge holds on to.
        x (torch.Tensor): Inputs of each pixel of the output, shape (rows, g, inputs).
        y (torch.Tensor): Outputs to come to, shape (rows, o).

    Returns:
        weight (torch.Tensor): Weights in the layer's shape.
        shift (torch.Tensor): Shape (o,).
    """
    groups = layer.groups
    y = y.unflatten(1, (groups, -1))
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = torch.einsum("rgi,rgj->gij", x, x).double() / len(x)
    cross = torch.einsum("rgi,rgo->gio", x, y).double() / len(x)
    before = layer.weight.double().view(groups, -1, gram.shape[1]).mT
    ridge = (RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1)).clamp_min(TINY)[:, None, None]
    hold = ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram + hold, cross + ridge * before)
    shift = y_mean.double() - (x_mean.double()[:, None] @ weight)[:, 0]
    return weight.mT.reshape(layer.weight.shape).to(layer.weight.dtype), shift.flatten().to(layer.weight.dtype)


def _take_over(norm: nn.Module, dense: nn.Module, kept: Sequence[int] | None, shift: torch.Tensor) -> None:
    """Give a batch norm the dense statistics, less what its inputs lack to their constants."""
    for name, value in (("running_mean", dense.running_mean), ("running_var", dense.running_var)):
        getattr(norm, name).copy_(value if kept is None else value[list(kept)])
    norm.running_mean -= shift


def _patches(layer: nn.Conv2d, x: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Return what a convolution sees at some pixels of its output.

    Args:
        layer (nn.Conv2d): Convolution of g groups.
        x (torch.Tensor): Its input, shape (B, C, H, W).
        pixels (torch.Tensor): Indices of the batch's output pixels, in order, shape (rows,).

    Returns:
        (torch.Tensor): Shape (rows, g, inputs of a group).
    """
    rows = []
    for i, image in enumerate(x):  # a batch at once would take memory for every pixel
        patches = F.unfold(image[None], layer.kernel_size, layer.dilation, layer.padding, layer.stride)[0]
        count = patches.shape[1]
        own = pixels[(pixels >= i * count) & (pixels < (i + 1) * count)] - i * count
        rows.append(patches[:, own].T)
    return torch.cat(rows).unflatten(1, (layer.groups, -1))


def _is_slice(layer: nn.Conv2d, dense: nn.Conv2d, kept: Mapping[str, Sequence[int]]) -> bool:
    """Return True if a convolution holds weights of the dense one as they were: others put out something else."""
    weight = dense.weight
    weight = weight[list(kept["out"])] if "out" in kept else weight
    if "in" in kept and weight.shape[1] != layer.weight.shape[1]:
        if layer.groups > 1:  # dimension 1 counts the channels of one group
            return False
        weight = weight[:, list(kept["in"])]
    return torch.equal(weight, layer.weight)


def _goals(
    layers: Mapping[str, nn.Module], channels: Channels, dense: nn.Module, images: torch.Tensor
) -> dict[str, Goal | None]:
    """Return what the convolutions of the dense model put out, at pixels that are drawn once and for all.

    Args:
        layers (Mapping[str, nn.Module]): Convolutions of the dense model.
        channels (Mapping): Those of their outputs that count, see `refit`.
        dense (nn.Module): The dense model.
        images (torch.Tensor): Images.

    Returns:
        (dict[str, Goal | None]): Goal of each that is called; None for one that is called several times.
    """
    generator = torch.Generator().manual_seed(0)
    goals: dict[str, Goal | None] = {}

    def note(name: str, _: Any, output: torch.Tensor) -> None:
        if name in goals:
            goals[name] = None
            return
        pixels = torch.randperm(output.shape[0] * output.shape[2:].numel(), generator=generator)[:ROWS].sort().values
        kept = channels.get(name, {}).get("out")
        rows = output.movedim(1, -1).flatten(0, 2)[pixels.to(output.device)]
        goals[name] = Goal(pixels.to(output.device), rows if kept is None else rows[:, kept])

    with torch.no_grad(), _watched(layers, note):
        dense(images)
    return goals


def _norms_behind(model: nn.Module, image: torch.Tensor) -> dict[str, str]:
    """Return the names of convolutions to those of the batch norms that take what they put out."""
    outputs: dict[int, tuple[str, torch.Tensor]] = {}  # with the tensor, whose id is its own as long as it lives
    norms: dict[str, str] = {}

    def note(name: str, args: tuple, output: torch.Tensor) -> None:
        if isinstance(layers[name], nn.Conv2d):
            outputs[id(output)] = name, output
        elif args and id(args[0]) in outputs:
            norms[outputs[id(args[0])][0]] = name

    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, _BatchNorm))}
    with torch.no_grad(), _watched(layers, note):
        model(image)
    return norms


@contextmanager
def _watched(layers: Mapping[str, nn.Module], note: Callable[[str, Any, Any], None], before: bool = False) -> Iterator:
    """Call a function with name, arguments and output of layers, or before they run, without an output."""
    hooks = []
    try:
        for name, layer in layers.items():
            if before:
                hooks.append(layer.register_forward_pre_hook(lambda _, args, name=name: note(name, args, None)))
            else:
                hooks.append(layer.register_forward_hook(lambda _, args, y, name=name: note(name, args, y)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
