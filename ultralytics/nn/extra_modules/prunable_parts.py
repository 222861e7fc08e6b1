# SPDX-License-Identifier: AGPL-3.0-or-later
"""Take an Ultralytics `Conv`, or a plain convolution, apart along its output channels, and join the parts."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

BN_TENSORS = ("weight", "bias", "running_mean", "running_var")
LAYER_MARKS = ("i", "f", "type", "np")  # what Ultralytics' parse_model notes on the layers of a model


def split_conv(conv: nn.Module, parts: Sequence[torch.Tensor]) -> list[nn.Module]:
    """Return a convolution for each part of the output channels.

    Args:
        conv (nn.Module): Unfused `Conv` or `nn.Conv2d`, ungrouped.
        parts (Sequence[torch.Tensor]): Indices of the outputs of each part.

    Returns:
        (list[nn.Module]): Convolutions whose outputs are those of `conv` at the given indices.

    Raises:
        ValueError: If the block is fused or grouped.
    """
    plain = isinstance(conv, nn.Conv2d)
    if not plain and not hasattr(conv, "bn"):
        raise ValueError("the model is fused for inference (Conv without BatchNorm); prune the unfused checkpoint")
    groups = (conv if plain else conv.conv).groups
    if groups != 1:
        raise ValueError(f"a grouped convolution (groups={groups}) cannot be split into branches")
    split = []
    for part in parts:
        new = _with_outputs(conv, len(part))
        for dst, src in zip(_output_tensors(new), _output_tensors(conv)):
            dst.data = src.data[part.to(src.device)].clone()
        split.append(new)
    return split


def can_split(conv: nn.Module) -> bool:
    """Return False for what stands in the place of a convolution that `split_conv` takes apart, a GhostConv for one."""
    plain = conv if isinstance(conv, nn.Conv2d) else getattr(conv, "conv", None)
    if not isinstance(plain, nn.Conv2d) or plain.groups != 1:
        return False
    norm, act = getattr(conv, "bn", None), getattr(conv, "act", None)
    of_channels = isinstance(act, nn.Module) and any(p.numel() > 1 for p in act.parameters())
    return (norm is None or isinstance(norm, nn.BatchNorm2d)) and not of_channels


def join_convs(convs: Sequence[nn.Module], parts: Sequence[torch.Tensor]) -> nn.Module:
    """Return the convolution that `split_conv` takes apart into these.

    Args:
        convs (Sequence[nn.Module]): Convolutions that share their input.
        parts (Sequence[torch.Tensor]): Indices of the outputs of each in the joint convolution.

    Returns:
        (nn.Module): Joint convolution.
    """
    joint = _with_outputs(convs[0], sum(map(len, parts)))
    order = torch.cat(list(parts)).argsort()
    for dst, *src in zip(_output_tensors(joint), *map(_output_tensors, convs)):
        dst.data = torch.cat([t.data for t in src])[order.to(dst.device)]
    return joint


def consecutive(*sizes: int) -> list[torch.Tensor]:
    """Return indices of parts that follow each other."""
    return list(torch.arange(sum(sizes)).split(list(sizes)))


def copy_marks(src: nn.Module, dst: nn.Module) -> nn.Module:
    """Carry train mode and Ultralytics' layer marks (index, inputs, type, parameters) from one block to another."""
    for name in LAYER_MARKS:
        if name in vars(src):  # every module has a method `type`, which would take its own block along
            setattr(dst, name, getattr(src, name))
    dst.training = src.training
    return dst


def _with_outputs(conv: nn.Module, channels: int) -> nn.Module:
    """Return a copy of the block that declares `channels` outputs; its tensors are set by the caller."""
    new = deepcopy(conv)
    if isinstance(new, nn.Conv2d):
        new.out_channels = channels
    else:
        new.act = conv.act  # Ultralytics shares one activation module among all blocks
        new.conv.out_channels = new.bn.num_features = channels
    return new


def _output_tensors(conv: nn.Module) -> list[torch.Tensor]:
    """Return every tensor of the block whose first dimension is the output channel."""
    plain = conv if isinstance(conv, nn.Conv2d) else conv.conv
    tensors = [plain.weight] if plain.bias is None else [plain.weight, plain.bias]
    return tensors if plain is conv else [*tensors, *(getattr(conv.bn, name) for name in BN_TENSORS)]
