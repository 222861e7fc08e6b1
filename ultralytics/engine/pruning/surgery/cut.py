# SPDX-License-Identifier: AGPL-3.0-or-later
"""The cut: remove units from a network by slicing its layers, once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ultralytics.engine.pruning.graph.groups import Group, is_depthwise
from ultralytics.engine.pruning.graph.places import SLICED, inputs, outputs
from ultralytics.nn.modules.conv import RepConv

Kept = dict[nn.Module, dict[str, torch.Tensor]]  # layer: axis 'out' or 'in': indices of the channels kept


def channels_to_keep(model: nn.Module, groups: Sequence[Group], units: Sequence[torch.Tensor]) -> Kept:
    """Return the channels that every layer keeps.

    Args:
        model (nn.Module): The model that the groups belong to.
        groups (Sequence[Group]): Groups.
        units (Sequence[torch.Tensor]): Indices of the units that each group keeps.

    Returns:
        (dict[nn.Module, dict[str, torch.Tensor]]): Layer to axis to ascending channel indices. A depthwise
            convolution's inputs are its outputs.
    """
    masks: dict[nn.Module, dict[str, torch.Tensor]] = {}
    for m in model.modules():
        if type(m) in SLICED:
            masks[m] = {"out": torch.ones(outputs(m), dtype=torch.bool)}
            if not isinstance(m, nn.BatchNorm2d):
                masks[m]["in"] = torch.ones(inputs(m), dtype=torch.bool)
    for group, kept in zip(groups, units):
        keep = torch.zeros(group.size, dtype=torch.bool)
        keep[kept] = True
        for s in group.slices:
            masks[s.layer][s.axis][s.channels] = keep[s.units]
            if is_depthwise(s.layer):
                masks[s.layer]["in"] = masks[s.layer]["out"]
    return {m: {axis: mask.nonzero().flatten() for axis, mask in axes.items()} for m, axes in masks.items()}


def cut(model: nn.Module, kept: Kept) -> None:
    """Slice layers in place, so that only the given channels are left.

    Args:
        model (nn.Module): The model that the layers belong to.
        kept (dict[nn.Module, dict[str, torch.Tensor]]): What `channels_to_keep` returned.
    """
    for layer, axes in kept.items():
        SLICERS[type(layer)](layer, **{f"{axis}_channels": index for axis, index in axes.items()})
    for block in model.modules():
        if type(block) in ATTRIBUTES:
            ATTRIBUTES[type(block)](block)


def slice_conv(conv: nn.Conv2d, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input channels of a convolution.

    Args:
        conv (nn.Conv2d): Plain or depthwise convolution; of a depthwise one, both index tensors are the same. One of
            other groups keeps all that it has.
        out_channels (torch.Tensor): Output channels to keep.
        in_channels (torch.Tensor): Input channels to keep.
    """
    weight = conv.weight[out_channels]
    if is_depthwise(conv):
        conv.groups = len(in_channels)
    elif conv.groups == 1:
        weight = weight[:, in_channels]
    conv.weight = _parameter(weight, conv.weight)
    if conv.bias is not None:
        conv.bias = _parameter(conv.bias[out_channels], conv.bias)
    conv.out_channels, conv.in_channels = len(out_channels), len(in_channels)


def slice_batch_norm(norm: nn.BatchNorm2d, out_channels: torch.Tensor) -> None:
    """Keep some channels of a batch norm.

    Args:
        norm (nn.BatchNorm2d): Affine batch norm with running statistics.
        out_channels (torch.Tensor): Channels to keep.
    """
    norm.weight, norm.bias = (_parameter(p[out_channels], p) for p in (norm.weight, norm.bias))
    norm.running_mean, norm.running_var = norm.running_mean[out_channels], norm.running_var[out_channels]
    norm.num_features = len(out_channels)


def slice_conv_transpose(conv: nn.ConvTranspose2d, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input channels of an ungrouped transposed convolution, whose weight has inputs first.

    Args:
        conv (nn.ConvTranspose2d): Transposed convolution.
        out_channels (torch.Tensor): Output channels to keep.
        in_channels (torch.Tensor): Input channels to keep.
    """
    conv.weight = _parameter(conv.weight[in_channels][:, out_channels], conv.weight)
    if conv.bias is not None:
        conv.bias = _parameter(conv.bias[out_channels], conv.bias)
    conv.out_channels, conv.in_channels = len(out_channels), len(in_channels)


def slice_linear(linear: nn.Linear, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input features of a linear layer.

    Args:
        linear (nn.Linear): Linear layer.
        out_channels (torch.Tensor): Output features to keep.
        in_channels (torch.Tensor): Input features to keep.
    """
    linear.weight = _parameter(linear.weight[out_channels][:, in_channels], linear.weight)
    if linear.bias is not None:
        linear.bias = _parameter(linear.bias[out_channels], linear.bias)
    linear.out_features, linear.in_features = len(out_channels), len(in_channels)


def match_rep_conv(block: RepConv) -> None:
    """Let the attributes by which a RepConv fuses say what its convolutions are."""
    block.c1, block.c2 = block.conv1.conv.in_channels, block.conv1.conv.out_channels
    block.g = block.conv1.conv.groups


SLICERS: dict[type[nn.Module], Callable[..., None]] = {
    nn.Conv2d: slice_conv,
    nn.ConvTranspose2d: slice_conv_transpose,
    nn.Linear: slice_linear,
    nn.BatchNorm2d: slice_batch_norm,
}
ATTRIBUTES = {RepConv: match_rep_conv}  # stock blocks that keep channel counts in attributes which they compute with


def _parameter(values: torch.Tensor, like: nn.Parameter) -> nn.Parameter:
    """Return a parameter of its own memory that requires gradients as the old one did."""
    return nn.Parameter(values.detach().clone(), requires_grad=like.requires_grad)
