# SPDX-License-Identifier: AGPL-3.0-or-later
"""Weights that are numbers: what a training that diverged has left is neither pruned nor saved."""

from __future__ import annotations

import torch
from torch import nn


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse weights and batch norm statistics that are not finite.

    Args:
        model (nn.Module): Model.
        name (str): What the message calls it, i.e. "'model=best.pt'".

    Raises:
        ValueError: If there is one; the message names the first.
    """
    for key, values in model.state_dict().items():
        if isinstance(values, torch.Tensor) and values.is_floating_point() and not values.isfinite().all():
            raise ValueError(
                f"{name} has weights that are not finite, '{key}' first: its training has diverged. Train it again "
                "with a lower 'lr0', or a lower 'reg' if it was a sparsity training."
            )


def half_within_range(model: nn.Module) -> nn.Module:
    """Return a model of finite weights in FP16, in place; values beyond its range are clamped, as in Ultralytics.

    Args:
        model (nn.Module): Model.

    Returns:
        (nn.Module): The same model.
    """
    for values in model.half().state_dict().values():
        if isinstance(values, torch.Tensor) and values.is_floating_point():
            torch.nan_to_num_(values)
    return model
