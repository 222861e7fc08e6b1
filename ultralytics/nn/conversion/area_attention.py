# SPDX-License-Identifier: AGPL-3.0-or-later
"""AAttn of the original YOLOv12 repository, which stock Ultralytics loads and cannot run.

There, one convolution makes queries and keys of all heads, queries first, and another the values. Stock AAttn has one
convolution for all, head by head. The rest is the same but for the kernel of the positional encoding, 5 instead of 7,
which the layer brings along. Checkpoints that were trained with FlashAttention hold the same layers.
"""

from __future__ import annotations

from torch import nn

from ultralytics.cfg.compress.compat.modules import AAttn
from ultralytics.nn.extra_modules.prunable_attention import head_parts
from ultralytics.nn.extra_modules.prunable_form import blank
from ultralytics.nn.extra_modules.prunable_parts import consecutive, copy_marks, join_convs, split_conv


def has_split_attention(model: nn.Module) -> bool:
    """Return True for a model with such attention."""
    return any(is_split(m) for m in model.modules())


def is_split(block: nn.Module) -> bool:
    """Return True for attention whose queries and keys come from one convolution and the values from another."""
    return isinstance(block, AAttn) and hasattr(block, "qk")


def join_split_attention(model: nn.Module) -> nn.Module:
    """Replace, in place, such attention by stock AAttn.

    Args:
        model (nn.Module): Model with unfused blocks.

    Returns:
        (nn.Module): The same model object.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if is_split(child):
                setattr(parent, name, joined(child))
    return model


def joined(block: AAttn) -> AAttn:
    """Return the stock block of a split one.

    Args:
        block (AAttn): Unfused block with `qk` and `v`.

    Returns:
        (AAttn): Stock block that computes the same, with the layers `pe` and `proj` of the other.

    Raises:
        ValueError: If the block is fused.
    """
    heads = block.num_heads
    width = block.v.conv.out_channels
    size = width // heads
    q, k = split_conv(block.qk, consecutive(width, width))
    stock = blank(AAttn)
    stock.area, stock.num_heads, stock.head_dim, stock.all_head_dim = block.area, heads, size, width
    stock.qkv = join_convs([q, k, block.v], head_parts(heads, size, size, size))
    stock.proj, stock.pe = block.proj, block.pe
    return copy_marks(block, stock)
