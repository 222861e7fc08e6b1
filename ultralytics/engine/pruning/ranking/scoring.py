# SPDX-License-Identifier: AGPL-3.0-or-later
"""Score all groups of a model by a method, with gradients where the method needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.ranking.criteria import balanced
from ultralytics.engine.pruning.ranking.methods import Method

Losses = Callable[[nn.Module], Iterable[torch.Tensor]]  # model to scalar losses, of one batch each


def score_groups(
    model: nn.Module, groups: Sequence[Group], method: Method, losses: Losses | None = None, seed: int = 0
) -> list[torch.Tensor]:
    """Return the scores of every group's units.

    Args:
        model (nn.Module): The model that the groups belong to; it is left as it was, without gradients.
        groups (Sequence[Group]): Groups.
        method (Method): A row of `METHODS`.
        losses (Callable, optional): Yields losses of the model, for a method that needs gradients; scores are averaged
            over them.
        seed (int): Seed, for a method that needs one.

    Returns:
        (list[torch.Tensor]): Scores of each group, shape (units,), float64.

    Raises:
        TypeError: If a loss is no tensor of one number.
        ValueError: If there are no losses, they change the model's modes, or a score is not finite.
    """
    if method.needs_gradients:
        if losses is None:
            raise ValueError("'losses' is missing: this method ranks by gradients of the model's losses.")
        scores = _average_over_losses(model, groups, method, losses)
    else:
        settings = {"seed": seed} if method.needs_seed else {}
        scores = [method.criterion(group, **settings) for group in groups]
    if broken := [group.name for group, values in zip(groups, scores) if not values.isfinite().all()]:
        raise ValueError(
            f"channels of {', '.join(broken[:3])}{' and others' * (len(broken) > 3)} have scores that are not finite. "
            "Check that the model's weights are finite and that it has a finite loss on the training data."
        )
    return scores


def _average_over_losses(
    model: nn.Module, groups: Sequence[Group], method: Method, losses: Losses
) -> list[torch.Tensor]:
    """Return the scores of every group's units by gradients, averaged over losses and made comparable."""
    model, groups = deepcopy((model, groups))  # blocks may keep tensors that hang on a graph of gradients
    weights = {s.layer.weight for group in groups for s in group.slices}
    totals, count = [torch.zeros(group.size, dtype=torch.float64) for group in groups], 0
    for p in model.parameters():
        p.requires_grad_(p in weights)
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    for norm in norms:
        norm.eval()  # statistics stay as they are, and a weight before a batch norm keeps its say
    for loss in losses(model):
        check_loss(loss)
        if any(norm.training for norm in norms):
            raise ValueError(
                "'losses' has put batch norms into train mode, which moves their statistics. Leave the modes of "
                "the model that 'losses' is called with as they are."
            )
        model.zero_grad(set_to_none=True)
        loss.backward()
        if all(weight.grad is None for weight in weights):
            raise ValueError(
                "'losses' yielded a loss that depends on no weight of the model. Compute it with the model that "
                "'losses' is called with, a copy of yours."
            )
        for total, group in zip(totals, groups):
            total += method.criterion(group)
        count += 1
    if not count:
        raise ValueError("'losses' yielded no loss: the training data has no batch.")
    return [balanced(total / count) for total in totals]


def check_loss(loss: Any) -> None:
    """Check what losses have yielded.

    Args:
        loss (Any): One of them.

    Raises:
        TypeError: If it is no tensor of one number.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        found = f"tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TypeError(f"'losses' yielded a {found}. 'losses' must yield tensors of one number, the loss of a batch.")
