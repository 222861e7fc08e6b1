# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of the blocks that halve the output of their first convolution."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.extra_modules.prunable_parts import can_split, consecutive, copy_marks, join_convs, split_conv
from ultralytics.nn.modules.block import C2, C2PSA, ELAN1, PSA, C2f, C2fCIB, C2fPSA, C3k2, RepNCSPELAN4


class PrunableHalves(PrunableForm):
    """A branch of its own for each half of the tensor that the stock block halves.

    Attributes:
        REST (tuple[str, ...]): Names of the stock block's other layers, which are the same objects here.
        cv0 (Conv): Makes the first half of stock `cv1`'s output.
        cv1 (Conv): Makes the second half.
    """

    REST: tuple[str, ...]

    @classmethod
    def fits(cls, block: nn.Module) -> bool:
        """Return True if the first convolution can be taken apart."""
        return can_split(block.cv1)

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableHalves:
        """Build the prunable form of an unfused stock block, reusing all layers but `cv1`."""
        new = cls()
        new.stock = type(block)
        half = block.cv1.conv.out_channels // 2
        new.cv0, new.cv1 = split_conv(block.cv1, consecutive(half, half))
        for name in cls.REST:
            setattr(new, name, getattr(block, name))
        return copy_marks(block, new)

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same; both branches must be equally wide."""
        block = blank(self.stock)
        block.c = self.cv1.conv.out_channels
        block.cv1 = join_convs([self.cv0, self.cv1], [part for _, part in self.stock_outputs().values()])
        for name in self.REST:
            setattr(block, name, getattr(self, name))
        return copy_marks(self, block)

    def stock_outputs(self) -> Outputs:
        """Return where the outputs of both branches are in the stock block."""
        first, second = consecutive(self.cv0.conv.out_channels, self.cv1.conv.out_channels)
        return {"cv0": ("cv1", first), "cv1": ("cv1", second)}

    def same_width(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield the convolutions that must stay equally wide."""
        yield self.cv0.conv, self.cv1.conv


@prunable(C2f, C3k2, C2fCIB, C2fPSA)
class PrunableC2f(PrunableHalves):
    """C2f and its children: the second half feeds a chain of blocks, and every stage of it is concatenated."""

    REST = ("cv2", "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = [self.cv0(x), self.cv1(x)]
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat(y, 1))


@prunable(C2)
class PrunableC2(PrunableHalves):
    """C2: the first half goes through the bottlenecks and is concatenated with the second."""

    REST = ("cv2", "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cv2(torch.cat((self.m(self.cv0(x)), self.cv1(x)), 1))


@prunable(RepNCSPELAN4, ELAN1)
class PrunableELAN(PrunableHalves):
    """RepNCSPELAN4 and ELAN1: the second half feeds two stages, and everything is concatenated."""

    REST = ("cv2", "cv3", "cv4")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = [self.cv0(x), self.cv1(x)]
        for m in (self.cv2, self.cv3):
            y.append(m(y[-1]))
        return self.cv4(torch.cat(y, 1))


@prunable(C2PSA)
class PrunableC2PSA(PrunableHalves):
    """C2PSA: the second half goes through attention blocks and is concatenated with the first."""

    REST = ("cv2", "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cv2(torch.cat((self.cv0(x), self.m(self.cv1(x))), 1))


@prunable(PSA)
class PrunablePSA(PrunableHalves):
    """PSA: the second half goes through one attention block, written out, and is concatenated with the first."""

    REST = ("cv2", "attn", "ffn")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = self.cv1(x)
        b = b + self.attn(b)
        b = b + self.ffn(b)
        return self.cv2(torch.cat((self.cv0(x), b), 1))
