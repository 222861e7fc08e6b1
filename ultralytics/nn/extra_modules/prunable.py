# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms: exact stand-ins for blocks whose stock form hides its channels from the dependency graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ultralytics.nn.extra_modules import (  # noqa: F401  which register their forms
    prunable_adown,
    prunable_attention,
    prunable_c2f,
    prunable_cblinear,
    prunable_transformer,
    prunable_world,
)
from ultralytics.nn.extra_modules.prunable_form import PRUNABLE_FORMS, PrunableForm, prunable

__all__ = (
    "PRUNABLE_FORMS",
    "PrunableForm",
    "equal_inputs",
    "equal_parts",
    "forms",
    "products",
    "prunable",
    "prunable_copy",
    "same_width",
    "to_prunable",
    "to_stock",
    "wide_as_input",
)


def refuse_derived(model: nn.Module) -> None:
    """Raise for a model whose weights are made of others: fused ones, or those of a weight or spectral norm.

    Args:
        model (nn.Module): Ultralytics model.

    Raises:
        ValueError: If it is one.
    """
    if getattr(model, "is_fused", lambda: False)():
        raise ValueError("the model is fused for inference (Conv without BatchNorm); prune the unfused checkpoint")
    for name, layer in model.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear)) and "weight" not in layer._parameters:
            raise ValueError(
                f"'{name}' computes its weight from others, as weight_norm and spectral_norm make it. Take that off, "
                "i.e. with torch.nn.utils.parametrize.remove_parametrizations, and prune the model then."
            )


def prunable_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a stock model in prunable form, FP32, contiguous and in evaluation mode.

    Args:
        model (nn.Module): Ultralytics model; it is left as it was.

    Returns:
        (nn.Module): Copy.

    Raises:
        ValueError: If the model is fused, or a layer computes its weight.
    """
    refuse_derived(model)
    return to_prunable(deepcopy(model).to(dtype=torch.float32, memory_format=torch.contiguous_format).eval())


def to_prunable(model: nn.Module) -> nn.Module:
    """Replace, in place, every stock block that has a prunable form by that form, where the form fits its layers.

    A block to whose class somebody has added layers stays as it is, and is followed as any block of one's own.

    Args:
        model (nn.Module): Model with unfused stock blocks.

    Returns:
        (nn.Module): The same model object.
    """

    def form(block: nn.Module) -> nn.Module | None:
        kind = PRUNABLE_FORMS.get(type(block))
        new = kind.from_block(block) if kind and kind.fits(block) else None
        return new if new is not None and _weights(new) == _weights(block) else None

    return _replace(model, form, {})


def _weights(module: nn.Module) -> int:
    """Return how many weights a module has."""
    return sum(parameter.numel() for parameter in module.parameters())


def to_stock(model: nn.Module) -> nn.Module:
    """Replace, in place, every prunable form by the stock block that computes the same.

    Args:
        model (nn.Module): Model that `to_prunable` returned, pruned or not.

    Returns:
        (nn.Module): The same model object, which holds no class of ours any more.
    """
    return _replace(model, lambda m: m.to_block() if isinstance(m, PrunableForm) else None, {})


def same_width(model: nn.Module) -> Iterator[tuple[nn.Conv2d, ...]]:
    """Yield the convolutions of a model in prunable form that must keep equally many output channels."""
    for form in forms(model):
        yield from form.same_width()


def wide_as_input(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    """Yield the convolutions of a model in prunable form that must be as wide as the input of another, and that one."""
    for form in forms(model):
        yield from form.wide_as_input()


def equal_parts(model: nn.Module) -> Iterator[tuple[nn.Conv2d, int]]:
    """Yield the convolutions of a model in prunable form whose outputs must shrink alike in that many equal parts."""
    for form in forms(model):
        yield from form.equal_parts()


def equal_inputs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, ...]]:
    """Yield the convolutions of a model in prunable form that must keep equally many channels of one tensor each."""
    for form in forms(model):
        yield from form.equal_inputs()


def products(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, float]]:
    """Yield the layers of a model in prunable form that feed a product over pairs of positions, with its FLOPs."""
    for form in forms(model):
        yield from form.products()


def forms(model: nn.Module) -> Iterator[PrunableForm]:
    """Yield the prunable forms in a model."""
    return (m for m in model.modules() if isinstance(m, PrunableForm))


def _replace(module: nn.Module, convert: Callable, done: dict[nn.Module, nn.Module | None]) -> nn.Module:
    """Walk the module tree from the leaves up and put in the module that `convert` returns, unless it is None.

    Args:
        module (nn.Module): Root of the tree.
        convert (Callable): Module to what takes its place.
        done (dict[nn.Module, nn.Module | None]): What it has returned; a block may be in several places.
    """
    for name, child in [*module._modules.items()]:
        if child is None:
            continue
        if child not in done:
            _replace(child, convert, done)
            done[child] = convert(child)
        if (new := done[child]) is not None:
            setattr(module, name, new)
    return module
