# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of the blocks that halve the output of their first convolution: C2 and C2f."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ultralytics.nn.modules.block import C2, C2f

from .branches import copy_marks, join_convs, split_conv


class PrunableHalves(nn.Module):
    """A branch of its own for each half of the tensor that the stock block halves.

    Attributes:
        STOCK (type): The stock block.
        STOCK_OUTPUTS (dict): Branch to stock layer and the part of its output that the branch makes.
        cv0 (Conv): Makes the first half of stock `cv1`'s output.
        cv1 (Conv): Makes the second half.
        cv2 (Conv): The stock block's output convolution, the same object.
        m (nn.Module): The stock block's bottlenecks, the same objects.
    """

    STOCK: type[nn.Module]
    STOCK_OUTPUTS = {"cv0": ("cv1", 0), "cv1": ("cv1", 1)}

    def __init__(self, cv0: nn.Module, cv1: nn.Module, cv2: nn.Module, m: nn.Module):
        """Assemble the block from its parts.

        Args:
            cv0 (Conv): Branch of the first half.
            cv1 (Conv): Branch of the second half.
            cv2 (Conv): Output convolution.
            m (nn.Module): Bottlenecks.
        """
        super().__init__()
        self.cv0, self.cv1, self.cv2, self.m = cv0, cv1, cv2, m

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableHalves:
        """Build the prunable form of an unfused stock block, reusing `cv2` and `m`."""
        return copy_marks(block, cls(*split_conv(block.cv1, (block.c, block.c)), block.cv2, block.m))

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same; both branches must be equally wide."""
        block = self.STOCK.__new__(self.STOCK)  # its own __init__ would initialise weights that are replaced at once
        nn.Module.__init__(block)
        block.c = self.cv1.conv.out_channels
        block.cv1, block.cv2, block.m = join_convs([self.cv0, self.cv1]), self.cv2, self.m
        return copy_marks(self, block)

    def same_width(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield the convolutions that must stay equally wide."""
        yield self.cv0.conv, self.cv1.conv


class PrunableC2f(PrunableHalves):
    """C2f: the second half feeds a chain of bottlenecks, and every stage of it is concatenated."""

    STOCK = C2f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both branches, the bottlenecks and the output convolution.

        Args:
            x (torch.Tensor): Input of shape (B, C, H, W).

        Returns:
            (torch.Tensor): Output of shape (B, C2, H, W).
        """
        y = [self.cv0(x), self.cv1(x)]
        for bottleneck in self.m:
            y.append(bottleneck(y[-1]))
        return self.cv2(torch.cat(y, 1))


class PrunableC2(PrunableHalves):
    """C2: the first half goes through the bottlenecks and is concatenated with the second."""

    STOCK = C2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both branches, the bottlenecks and the output convolution.

        Args:
            x (torch.Tensor): Input of shape (B, C, H, W).

        Returns:
            (torch.Tensor): Output of shape (B, C2, H, W).
        """
        return self.cv2(torch.cat((self.m(self.cv0(x)), self.cv1(x)), 1))
