# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable form of CBLinear, which makes several tensors with one convolution and splits them."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.extra_modules.prunable_parts import consecutive, copy_marks, join_convs, split_conv
from ultralytics.nn.modules.block import CBLinear


@prunable(CBLinear)
class PrunableCBLinear(PrunableForm):
    """A convolution of its own for each tensor; every one may have its own width.

    Attributes:
        convs (nn.ModuleList): The convolutions.
    """

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableCBLinear:
        """Build the prunable form of a stock block."""
        new = cls()
        new.stock = type(block)
        new.convs = nn.ModuleList(split_conv(block.conv, consecutive(*block.c2s)))
        return copy_marks(block, new)

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        block = blank(self.stock)
        block.c2s = [conv.out_channels for conv in self.convs]
        block.conv = join_convs(self.convs, consecutive(*block.c2s))
        return copy_marks(self, block)

    def stock_outputs(self) -> Outputs:
        """Return where the outputs of each convolution are in the stock one."""
        parts = consecutive(*(conv.out_channels for conv in self.convs))
        return {f"convs.{i}": ("conv", part) for i, part in enumerate(parts)}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(conv(x) for conv in self.convs)
