# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of the attention blocks Attention and AAttn: queries, keys and values from convolutions of their own.

Heads stay, and lose equally many channels each. A query channel goes together with its key channel, since only their
product is used; a value channel with its place in the output.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ultralytics.cfg.compress.compat.modules import AAttn
from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.extra_modules.prunable_parts import copy_marks, join_convs, split_conv
from ultralytics.nn.modules.block import Attention


@prunable(Attention)
class PrunableAttention(PrunableForm):
    """Attention: the output is viewed in the input's shape, so the values must be as wide as the input.

    Attributes:
        num_heads (int): Number of heads.
        area (int): Number of areas of the image; pixels attend to those of their own area.
        scale (float): Factor of the attention scores; that of the dense block, for pruned queries and keys too.
        q (Conv): Makes the queries of all heads, head by head.
        k (Conv): Makes the keys.
        v (Conv): Makes the values.
        pe (Conv): Depthwise positional encoding of the values.
        proj (Conv): Output projection.
    """

    def __init__(self):
        """Set what has no counterpart in the stock block."""
        super().__init__()
        self.area = 1

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableAttention:
        """Build the prunable form of an unfused stock block, reusing `pe` and `proj`."""
        new = cls()
        new.stock, new.num_heads = type(block), block.num_heads
        new.q, new.k, new.v = split_conv(block.qkv, head_parts(block.num_heads, *new.read_attributes(block)))
        new.proj, new.pe = block.proj, block.pe
        return copy_marks(block, new)

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        block = blank(self.stock)
        block.num_heads = self.num_heads
        self.write_attributes(block)
        block.qkv = join_convs([self.q, self.k, self.v], [part for _, part in self.stock_outputs().values()])
        block.proj, block.pe = self.proj, self.pe  # in the stock order, which the state dict has
        return copy_marks(self, block)

    def read_attributes(self, block: nn.Module) -> tuple[int, int, int]:
        """Take over how the stock block attends, and return the query, key and value channels of a head."""
        self.scale = block.scale
        return block.key_dim, block.key_dim, block.head_dim

    def write_attributes(self, block: nn.Module) -> None:
        """Give the stock block the attributes that it computes with."""
        block.scale = self.scale
        block.key_dim, _, block.head_dim = self.head_sizes()

    def head_sizes(self) -> tuple[int, int, int]:
        """Return the query, key and value channels of a head."""
        return tuple(m.conv.out_channels // self.num_heads for m in (self.q, self.k, self.v))

    def stock_outputs(self) -> Outputs:
        """Return where queries, keys and values are in the stock block, which has them head by head."""
        parts = head_parts(self.num_heads, *self.head_sizes())
        return {name: ("qkv", part) for name, part in zip("qkv", parts)}

    def wide_as_input(self) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
        """Yield the values, whose weighted means the stock block views in the shape of its input."""
        yield self.v.conv, self.q.conv

    def equal_parts(self) -> Iterator[tuple[nn.Conv2d, int]]:
        """Yield queries and values with the number of heads."""
        yield self.q.conv, self.num_heads
        yield self.v.conv, self.num_heads

    def products(self) -> Iterator[tuple[nn.Module, nn.Module, float]]:
        """Yield queries and values: two FLOPs per channel and pair of pixels of an area, in each of two products."""
        yield self.q.conv, self.q.conv, 2 / self.area
        yield self.v.conv, self.v.conv, 2 / self.area

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        # (B, heads, channels of a head, areas, pixels of an area) to (B, heads, areas, channels, pixels)
        split = [t.flatten(2).unflatten(1, (self.num_heads, -1)).unflatten(3, (self.area, -1)) for t in (q, k, v)]
        heads = [t.transpose(2, 3) for t in split]
        weights = ((heads[0] * self.scale).transpose(-2, -1) @ heads[1]).softmax(dim=-1)
        attended = (heads[2] @ weights.transpose(-2, -1)).transpose(2, 3)
        return self.proj(attended.reshape_as(v) + self.pe(v))


@prunable(AAttn)
class PrunableAAttn(PrunableAttention):
    """AAttn: attention within areas; queries, keys and values have the same head size.

    The stock block scales by its present head size. Where that has become smaller, the queries make up for it.
    """

    def read_attributes(self, block: nn.Module) -> tuple[int, int, int]:
        """Take over how the stock block attends, and return the query, key and value channels of a head."""
        self.area, self.scale = block.area, block.head_dim**-0.5
        return (block.head_dim,) * 3

    def write_attributes(self, block: nn.Module) -> None:
        """Give the stock block the attributes that it computes with, and the queries what its scale lacks."""
        block.area, block.head_dim = self.area, self.head_sizes()[0]
        block.all_head_dim = block.head_dim * block.num_heads
        factor = self.scale * block.head_dim**0.5
        self.q.bn.weight.data *= factor
        self.q.bn.bias.data *= factor
        self.scale /= factor

    def same_width(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield queries and values, which the stock block cuts alike.

        Before 8.4.34 it takes the width of its input for that of the values, as Attention does.
        """
        yield self.q.conv, self.v.conv


def head_parts(heads: int, *sizes: int) -> list[torch.Tensor]:
    """Return the indices of queries, keys and values in a convolution that makes them head by head.

    Args:
        heads (int): Number of heads.
        *sizes (int): Channels of each kind in a head, in their order there.

    Returns:
        (list[torch.Tensor]): Indices of each kind, ascending.
    """
    every = torch.arange(heads * sum(sizes)).view(heads, -1)
    return [part.flatten() for part in every.split(list(sizes), dim=1)]
