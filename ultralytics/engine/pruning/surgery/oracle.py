# SPDX-License-Identifier: AGPL-3.0-or-later
"""Reference for a cut: the dense model with the pruned channels masked to zero, which the pruned one must equal.

A channel is zero where a layer reads it. What counts channels (a layer norm, a group norm, an attention in heads, a
mean or a maximum over channels, a product that sums over them) sees only those that are kept: for it, absence is not
zero.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.heads import KINDS
from ultralytics.engine.pruning.graph.mode import input_first
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.graph.places import inputs, outputs, width
from ultralytics.engine.pruning.surgery.reference import Reference
from ultralytics.nn.modules.head import Classify, RTDETRDecoder

if TYPE_CHECKING:
    from ultralytics.engine.pruning.checkpoint.record import Record

Channels = dict[str, dict[str, list[int]]]  # layer of the stock model to the indices kept on its 'out' and 'in' axes


def largest_difference(dense: nn.Module, pruned: nn.Module, record: Record, image: torch.Tensor) -> float:
    """Return how far a pruned network is from the dense one with the pruned channels masked, in evaluation mode.

    Args:
        dense (nn.Module): Dense model.
        pruned (nn.Module): Pruned model.
        record (Record): What `prune_model` returned, or `Record.of` a pruned checkpoint's model.
        image (torch.Tensor): Input of shape (B, C, H, W).

    Returns:
        (float): Largest absolute difference of any of the head's outputs, over the largest absolute value of that one;
            NaN if the pruned network puts out one.

    Examples:
        >>> dense, pruned = YOLO("best.pt").model, YOLO("prune.pt").model
        >>> largest_difference(dense, pruned, Record.of(pruned), torch.rand(1, 3, 640, 640))
    """
    actual, expected = (raw_outputs(model.eval(), image) for model in (deepcopy(pruned), masked(dense, record)))
    differences = [relative_difference(actual[name], value) for name, value in expected.items()]
    return float(torch.tensor(differences).max())  # which keeps NaN


def relative_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest absolute difference over the largest absolute value expected; of zeros, over the tiniest."""
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))


def masked(dense: nn.Module, record: Record) -> nn.Module:
    """Return a copy of the dense network whose pruned channels are set to zero where a layer reads them.

    Args:
        dense (nn.Module): Dense model.
        record (Record): Record of the cut.

    Returns:
        (nn.Module): Copy with hooks.
    """
    return mask(deepcopy(dense), record.channels)


def mask(model: nn.Module, channels: Channels) -> nn.Module:
    """Set channels to zero where a layer reads them, by hooks on the model given.

    Args:
        model (nn.Module): Dense model.
        channels (Channels): Channels that every layer keeps.

    Returns:
        (nn.Module): The same model.

    Raises:
        ValueError: If they are channels of another model.
    """
    layers = dict(model.named_modules())
    absent = {}
    for name, kept in channels.items():
        layer = layers.get(name)
        if layer is None or any(max(kept[axis], default=0) >= width(layer, axis) for axis in ("in", "out")):
            raise ValueError(f"the record belongs to another model: it keeps channels of '{name}' that this one lacks.")
        absent[layer] = torch.ones(outputs(layer))
        absent[layer][kept["out"]] = 0
    reference = Reference(model, absent)
    reference.attach(model)
    for layer in absent:
        keep = _mask(channels[reference.names[layer]]["in"], inputs(layer), layer)
        layer.register_forward_pre_hook(partial(_mask_input, reference, keep), with_kwargs=True)
    return model


def _mask_input(reference: Reference, keep: torch.Tensor, _layer: nn.Module, args: tuple, kwargs: dict) -> tuple:
    """Return a layer's arguments, of which the first is the input, with the input masked and labelled as before."""
    args, kwargs = input_first(args, kwargs)
    x = args[0] * keep
    reference.set(x, reference.of(args[0]))
    return (x, *args[1:]), kwargs


def raw_outputs(model: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what the head puts out before decoding, for every branch of it; of one's own, all that it puts out.

    Whole numbers, as of the best class, are made of what is compared beside them.

    An RT-DETR decoder begins by choosing the features with the best scores, and rounding can swap near ties, and
    everything behind with them. Here it chooses them by their place; the scores are an output of their own.
    Of a classifier it is the logits, which not every Ultralytics returns: behind a softmax a wrong cut could go unseen.
    """
    scores: dict[str, torch.Tensor] = {}
    logits: dict[str, torch.Tensor] = {}
    head = model.model[-1]
    hooks = []

    def choose_by_place(_layer: nn.Module, _args: tuple, output: torch.Tensor) -> torch.Tensor:
        scores["scores of all features"] = output
        return torch.arange(output.shape[1]).to(output)[:, None].expand_as(output)

    def keep_logits(_layer: nn.Module, _args: tuple, output: torch.Tensor) -> None:
        logits[""] = output

    if isinstance(head, RTDETRDecoder):
        hooks.append(head.enc_score_head.register_forward_hook(choose_by_place))
    if isinstance(head, Classify):
        hooks.append(head.linear.register_forward_hook(keep_logits))
    try:
        with torch.no_grad():
            output = model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(output, tuple) and isinstance(head, tuple(KINDS)):  # decoded first, then what that is made of
        output = output[1] if len(output) == 2 else output[1:]
    found = {name: value for name, value in flatten(output).items() if value.is_floating_point()}
    return logits or {**found, **scores}


def enliven(model: nn.Module, run: Callable[[torch.Tensor], Any], seed: int = 0) -> nn.Module:
    """Give an untrained network statistics that fit its input, in place, so that its outputs depend on the image.

    With PyTorch's initial weights and statistics the signal dies within some layers, the outputs are constants, and a
    wrong cut could go unseen.

    Args:
        model (nn.Module): Model built from YAML.
        run (Callable): Runs it on images, in train mode and without a loss.
        seed (int): Seed.

    Returns:
        (nn.Module): The same model, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.weight.data.uniform_(0.5, 1.5, generator=generator)
        m.bias.data.uniform_(-0.5, 0.5, generator=generator)
        m.momentum = 1.0
    model.train()
    with torch.no_grad():
        run(torch.rand(2, 3, 192, 192, generator=generator))
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
    return model.eval()


def _mask(kept: list[int], channels: int, layer: nn.Module) -> torch.Tensor:
    """Return 1 for kept channels and 0 for others, in a shape that multiplies the layer's input or output."""
    keep = torch.zeros(channels, device=layer.weight.device)
    keep[kept] = 1
    return keep.view(-1, *[1] * (layer.weight.dim() - 2))
