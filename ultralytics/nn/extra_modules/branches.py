# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cut an Ultralytics `Conv` (convolution, batch norm, activation) along its output channels, and join the parts."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from ultralytics.nn.modules.conv import Conv

BN_TENSORS = ("weight", "bias", "running_mean", "running_var")
LAYER_MARKS = ("i", "f", "type", "np")  # what Ultralytics' parse_model notes on the layers of a model


def split_conv(conv: Conv, sizes: tuple[int, ...]) -> list[Conv]:
    """Return one `Conv` per part of the output channels.

    Args:
        conv (Conv): Unfused, ungrouped block with sum(sizes) output channels.
        sizes (tuple[int, ...]): Output channels of the parts.

    Returns:
        (list[Conv]): Parts whose concatenated outputs equal the output of `conv`.

    Raises:
        ValueError: If the block is fused or grouped.
    """
    if not hasattr(conv, "bn"):
        raise ValueError("the model is fused for inference (Conv without BatchNorm); prune the unfused checkpoint")
    if conv.conv.groups != 1:
        raise ValueError(f"a grouped convolution (groups={conv.conv.groups}) cannot be split into branches")
    parts, start = [], 0
    for size in sizes:
        part = _with_outputs(conv, size)
        rows = slice(start, start + size)
        for dst, src in zip(_output_tensors(part), _output_tensors(conv)):
            dst.data = src.data[rows].clone()
        parts.append(part)
        start += size
    return parts


def join_convs(parts: list[Conv]) -> Conv:
    """Return the `Conv` whose output is the concatenation of the outputs of `parts`, which share their input."""
    conv = _with_outputs(parts[0], sum(part.conv.out_channels for part in parts))
    for dst, *src in zip(_output_tensors(conv), *map(_output_tensors, parts)):
        dst.data = torch.cat([t.data for t in src])
    return conv


def copy_marks(src: nn.Module, dst: nn.Module) -> nn.Module:
    """Carry train mode and Ultralytics' layer marks (index, inputs, type, parameters) from one block to another."""
    for name in LAYER_MARKS:
        if hasattr(src, name):
            setattr(dst, name, getattr(src, name))
    dst.training = src.training
    return dst


def _with_outputs(conv: Conv, channels: int) -> Conv:
    """Return a copy of the block that declares `channels` outputs; its tensors are set by the caller."""
    new = deepcopy(conv)
    new.act = conv.act  # Ultralytics shares one activation module among all blocks
    new.conv.out_channels = new.bn.num_features = channels
    return new


def _output_tensors(conv: Conv) -> list[torch.Tensor]:
    """Return every tensor of the block whose first dimension is the output channel."""
    bias = [] if conv.conv.bias is None else [conv.conv.bias]
    return [conv.conv.weight, *bias, *(getattr(conv.bn, name) for name in BN_TENSORS)]
