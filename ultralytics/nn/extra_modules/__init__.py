# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms: exact stand-ins for blocks whose stock form hides its channels from the dependency graph.

A prunable form is a module with two methods and one mapping:

- `from_block(block)` builds it from the stock block, `to_block()` builds the stock block back; outputs stay the same.
- `same_width()` yields tuples of convolutions that must keep the same *number* of output channels, because the stock
  block cuts one tensor into equal parts; which channels each keeps is free.
- `STOCK_OUTPUTS` names, for each branch, the stock block's layer and the part of its output that the branch makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from torch import nn

from .halves import PrunableC2, PrunableC2f

PRUNABLE_FORMS = {form.STOCK: form for form in (PrunableC2, PrunableC2f)}

__all__ = "PRUNABLE_FORMS", "PrunableC2", "PrunableC2f", "prunable_copy", "same_width", "to_prunable", "to_stock"


def prunable_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a stock model in prunable form, FP32 and in evaluation mode.

    Args:
        model (nn.Module): Ultralytics model; it is left as it was.

    Returns:
        (nn.Module): Copy.

    Raises:
        ValueError: If the model is fused.
    """
    if getattr(model, "is_fused", lambda: False)():
        raise ValueError("the model is fused for inference (Conv without BatchNorm); prune the unfused checkpoint")
    return to_prunable(deepcopy(model).float().eval())


def to_prunable(model: nn.Module) -> nn.Module:
    """Replace, in place, every stock block that has a prunable form by that form.

    Args:
        model (nn.Module): Model with unfused stock blocks.

    Returns:
        (nn.Module): The same model object.
    """
    return _replace(model, lambda m: PRUNABLE_FORMS[type(m)].from_block(m) if type(m) in PRUNABLE_FORMS else None)


def to_stock(model: nn.Module) -> nn.Module:
    """Replace, in place, every prunable form by the stock block that computes the same.

    Args:
        model (nn.Module): Model that `to_prunable` returned, pruned or not.

    Returns:
        (nn.Module): The same model object, which holds no class of ours any more.
    """
    forms = tuple(PRUNABLE_FORMS.values())
    return _replace(model, lambda m: m.to_block() if isinstance(m, forms) else None)


def same_width(model: nn.Module) -> Iterator[tuple[nn.Conv2d, ...]]:
    """Yield the convolutions of a model in prunable form that must keep equally many output channels.

    Args:
        model (nn.Module): Model that `to_prunable` returned.

    Yields:
        (tuple[nn.Conv2d, ...]): Convolutions of one block.
    """
    for m in model.modules():
        if isinstance(m, tuple(PRUNABLE_FORMS.values())):
            yield from m.same_width()


def _replace(module: nn.Module, convert) -> nn.Module:
    """Walk the module tree from the leaves up and put in the module that `convert` returns, unless it is None."""
    for name, child in module.named_children():
        _replace(child, convert)
        if (new := convert(child)) is not None:
            setattr(module, name, new)
    return module
