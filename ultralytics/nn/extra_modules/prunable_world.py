# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of the blocks by which YOLO-World looks at an image with the names of its classes in mind.

The texts' width stays. What is compared with them, head by head, is the width of the image's features: a feature goes
together with its guide, since only their product is used, and all heads lose equally many of both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ultralytics.nn.extra_modules.prunable_c2f import PrunableHalves
from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.extra_modules.prunable_parts import copy_marks
from ultralytics.nn.modules.block import C2fAttn, MaxSigmoidAttnBlock


@prunable(MaxSigmoidAttnBlock)
class PrunableMaxSigmoid(PrunableForm):
    """MaxSigmoidAttnBlock: every head weighs its channels by the text that fits best.

    The stock block divides by the square root of its present head size. Where that has become smaller, the guides make
    up for it.

    Attributes:
        num_heads (int): Number of heads.
        divisor (float): Square root of the features of a head in the dense block.
        ec (Conv | None): Makes the features that are compared; without, the input is compared.
        gl (nn.Linear): Makes the guides out of texts.
        proj_conv (Conv): Makes the channels that are weighed.
        bias (nn.Parameter): Of every head.
        scale (nn.Parameter | float): Of every head.
    """

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableMaxSigmoid:
        """Build the prunable form of a stock block, reusing all its layers."""
        new = cls()
        new.stock, new.num_heads, new.divisor = type(block), block.nh, block.hc**0.5
        new.ec, new.gl, new.proj_conv = block.ec, block.gl, block.proj_conv
        new.bias, new.scale = block.bias, block.scale
        return copy_marks(block, new)

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        block = blank(self.stock)
        block.nh, block.hc = self.num_heads, self.gl.out_features // self.num_heads
        factor = block.hc**0.5 / self.divisor
        for parameter in self.gl.parameters():
            parameter.data *= factor
        self.divisor *= factor
        block.ec, block.gl = self.ec, self.gl
        block.bias, block.proj_conv, block.scale = self.bias, self.proj_conv, self.scale
        return copy_marks(self, block)

    def stock_outputs(self) -> Outputs:
        """Return that every layer is where it is in the stock block."""
        return {}

    def equal_parts(self) -> Iterator[tuple[nn.Module, int]]:
        """Yield guides and weighed channels with the number of heads."""
        yield self.gl, self.num_heads
        yield self.proj_conv.conv, self.num_heads

    def products(self) -> Iterator[tuple[nn.Module, nn.Module, float]]:
        """Yield the guides: two FLOPs per channel and pair of a text and a pixel."""
        yield self.gl, self.proj_conv.conv, 2

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        features = x if self.ec is None else self.ec(x)
        heads = features.unflatten(1, (self.num_heads, -1)).flatten(3)  # (B, heads, features of a head, pixels)
        guides = self.gl(guide).unflatten(2, (self.num_heads, -1)).permute(0, 2, 3, 1)  # (B, heads, features, texts)
        best = (heads.transpose(2, 3) @ guides).max(dim=-1)[0].unflatten(2, x.shape[2:])
        weights = (best / self.divisor + self.bias[:, None, None]).sigmoid() * self.scale
        return (self.proj_conv(x).unflatten(1, (self.num_heads, -1)) * weights.unsqueeze(2)).flatten(1, 2)


@prunable(C2fAttn)
class PrunableC2fAttn(PrunableHalves, C2fAttn):
    """C2fAttn: a C2f whose last stage looks at the texts. `WorldModel` gives them to every C2fAttn."""

    REST = ("cv2", "m", "attn")

    def __init__(self):
        """Leave out the stock block's layers."""
        nn.Module.__init__(self)

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        y = [self.cv0(x), self.cv1(x)]
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat([*y, self.attn(y[-1], guide)], 1))
