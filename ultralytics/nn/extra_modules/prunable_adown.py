# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable form of ADown, which halves its input."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.extra_modules.prunable_parts import copy_marks
from ultralytics.nn.modules.block import ADown


@prunable(ADown)
class PrunableADown(PrunableForm):
    """ADown: the halves of the averaged input are downsampled by a convolution, and by pooling and a convolution.

    Whatever makes the input must keep equally many channels for both halves, so that halving again finds them.

    Attributes:
        cv1 (Conv): Downsamples the first half.
        cv2 (Conv): Follows the pooling of the second half.
    """

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableADown:
        """Build the prunable form of a stock block, reusing all its layers."""
        new = cls()
        new.stock, new.cv1, new.cv2 = type(block), block.cv1, block.cv2
        return copy_marks(block, new)

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        block = blank(self.stock)
        block.c = self.cv1.conv.out_channels  # the stock block does not compute with it
        block.cv1, block.cv2 = self.cv1, self.cv2
        return copy_marks(self, block)

    def stock_outputs(self) -> Outputs:
        """Return that every layer is where it is in the stock block."""
        return {}

    def equal_inputs(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield the convolutions that read a half each."""
        yield self.cv1.conv, self.cv2.conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = F.avg_pool2d(x, kernel_size=2, stride=1).chunk(2, 1)
        largest = F.max_pool2d(second, kernel_size=3, stride=2, padding=1)
        return torch.cat((self.cv1(first), self.cv2(largest)), 1)
