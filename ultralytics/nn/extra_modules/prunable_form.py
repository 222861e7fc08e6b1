# SPDX-License-Identifier: AGPL-3.0-or-later
"""What every prunable form offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

Outputs = dict[str, tuple[str, torch.Tensor]]


class PrunableForm(nn.Module):
    """An exact stand-in for a stock block that hides its channels from the dependency graph.

    Attributes:
        stock (type): Class of the stock block that it stands for.
    """

    stock: type[nn.Module]

    @classmethod
    def fits(cls, block: nn.Module) -> bool:
        """Return True if a block has the layers that the form takes apart, and not others in their place."""
        return True

    @classmethod
    def from_block(cls, block: nn.Module) -> PrunableForm:
        """Build the prunable form of an unfused stock block, reusing what needs no other form."""
        raise NotImplementedError

    def to_block(self) -> nn.Module:
        """Build the stock block that computes the same."""
        raise NotImplementedError

    def stock_outputs(self) -> Outputs:
        """Return where the outputs of new branches are in the stock block.

        Returns:
            (dict[str, tuple[str, torch.Tensor]]): Branch to the stock block's layer and the indices of the layer's
                outputs that the branch makes, ascending.
        """
        raise NotImplementedError

    def same_width(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield convolutions that must keep the same number of output channels, whichever these are."""
        return iter(())

    def wide_as_input(self) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
        """Yield convolutions that must keep as many output channels as another one, given with it, reads."""
        return iter(())

    def equal_parts(self) -> Iterator[tuple[nn.Conv2d, int]]:
        """Yield convolutions with the number of equal parts of their outputs that must keep equally many each."""
        return iter(())

    def equal_inputs(self) -> Iterator[tuple[nn.Conv2d, ...]]:
        """Yield convolutions that read parts of one tensor, of which they must keep equally many channels each."""
        return iter(())

    def products(self) -> Iterator[tuple[nn.Module, nn.Module, float]]:
        """Yield layers whose outputs enter a product over pairs of positions, with the product's FLOPs.

        Yields:
            (tuple[nn.Module, nn.Module, float]): The layer, another or the same one with whose positions its own are
                paired, and the FLOPs per output channel and pair.
        """
        return iter(())


Form = TypeVar("Form", bound=type[PrunableForm])
PRUNABLE_FORMS: dict[type[nn.Module], type[PrunableForm]] = {}  # class of a block: its form


def prunable(*blocks: type[nn.Module]) -> Callable[[Form], Form]:
    """Have a prunable form stand for blocks of these classes: a decorator, which a block's own file may use.

    Args:
        *blocks (type): Classes of blocks. Classes derived from them are others, whose forward may differ.

    Returns:
        (Callable): Takes the form and returns it.

    Raises:
        TypeError: If they are no classes of blocks, or the other is no prunable form.

    Examples:
        >>> @prunable(MyBlock)
        ... class PrunableMyBlock(PrunableForm): ...
    """
    if not blocks or not all(isinstance(block, type) and issubclass(block, nn.Module) for block in blocks):
        raise TypeError(f"@prunable takes classes of blocks, i.e. @prunable(MyBlock), not {blocks}.")

    def register(form: Form) -> Form:
        if not isinstance(form, type) or not issubclass(form, PrunableForm):
            raise TypeError(f"@prunable stands above a class derived from PrunableForm, not above {form}.")
        PRUNABLE_FORMS.update(dict.fromkeys(blocks, form))
        return form

    return register


def blank(stock: type[nn.Module]) -> nn.Module:
    """Return a stock block without layers; its own constructor would initialise weights that are replaced at once."""
    block = nn.Module.__new__(stock)
    nn.Module.__init__(block)
    return block
