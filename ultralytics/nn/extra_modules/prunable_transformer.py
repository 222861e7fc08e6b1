# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of blocks of transformers whose own forward will do, once they say what it reshapes tensors by."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from torch import nn

from ultralytics.nn.extra_modules.prunable_form import Outputs, PrunableForm, blank, prunable
from ultralytics.nn.modules.block import ImagePoolingAttn
from ultralytics.nn.modules.transformer import MSDeformAttn, TransformerBlock


class StockForward(PrunableForm):
    """A stock block with its own forward; stands before the stock block among the bases of a class.

    Attributes:
        WIDTH (str): An attribute of the stock block that counts channels, if it has one; a property of the form.
    """

    WIDTH = ""

    def __init__(self):
        """Leave out the stock block's layers."""
        nn.Module.__init__(self)

    @classmethod
    def from_block(cls, block: nn.Module) -> StockForward:
        """Build the prunable form of a stock block, reusing all its layers."""
        new = cls()
        new.__dict__.update(without(block, cls.WIDTH))
        new.stock = type(block)
        return new

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        block = blank(self.stock)
        block.__dict__.update(without(self, "stock"))
        if self.WIDTH:
            setattr(block, self.WIDTH, getattr(self, self.WIDTH))
        return block

    def stock_outputs(self) -> Outputs:
        """Return that every layer is where it is in the stock block."""
        return {}


@prunable(MSDeformAttn)
class PrunableMSDeformAttn(StockForward, MSDeformAttn):
    """MSDeformAttn: queries choose where to look; all heads lose equally many channels of the values that they see."""

    WIDTH = "d_model"

    @property
    def d_model(self) -> int:
        """Return the channels of the values."""
        return self.value_proj.out_features

    def equal_parts(self) -> Iterator[tuple[nn.Module, int]]:
        """Yield the values with the number of heads."""
        yield self.value_proj, self.n_heads


@prunable(TransformerBlock)
class PrunableTransformerBlock(StockForward, TransformerBlock):
    """TransformerBlock: layers of attention over all pixels, in one width."""

    WIDTH = "c2"

    @property
    def c2(self) -> int:
        """Return that width."""
        return self.linear.out_features


@prunable(ImagePoolingAttn)
class PrunableImagePooling(StockForward, ImagePoolingAttn):
    """ImagePoolingAttn: texts attend to pooled features; heads keep their width, the features need not."""

    def same_width(self) -> Iterator[tuple[nn.Module, ...]]:
        """Yield what makes queries, keys and values, with the projection to texts, which stays whole."""
        yield self.query[1], self.key[1], self.value[1], self.proj


def without(block: nn.Module, name: str) -> dict:
    """Return what a block consists of, layers and attributes, but for one attribute."""
    return {k: copy(v) if isinstance(v, dict) else v for k, v in vars(block).items() if k != name}
