# SPDX-License-Identifier: AGPL-3.0-or-later
"""Criteria: what each unit of a group is worth. The higher the score, the later the unit is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ultralytics.engine.pruning.groups import Group, Slice


def lamp(group: Group) -> torch.Tensor:
    """Score units by layer-adaptive magnitude (LAMP, Lee et al., ICLR 2021, arXiv 2010.07611, equation 5).

    The paper sorts the weights W of a layer by magnitude, ascending, and scores the one at index u by

        score(u; W) = W[u]^2 / sum_{v >= u} W[v]^2

    Here a layer is a group, and W[u]^2 is the squared L2 norm of everything that unit u holds. Scores lie in (0, 1];
    the largest unit of every group scores 1, so no group is emptied while another has more than one unit left. They
    are comparable between groups, and removing the smallest units leaves the scores of the others as they are.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Scores of shape (n,), float64.
    """
    energy = squared_norms(group)
    ascending = energy.argsort(stable=True)
    remaining = energy[ascending].flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(energy)
    # a group of zeros has no largest unit: score 0, the first to go
    scores[ascending] = torch.where(remaining > 0, energy[ascending] / remaining, remaining)
    return scores


def squared_norms(group: Group) -> torch.Tensor:
    """Return the squared L2 norm of all weights that each unit holds, summed over the group's layers.

    Convolution weights (rows for outputs, columns for inputs) and batch norm scales count, biases do not.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Squared norms of shape (n,), float64.
    """
    norms = torch.zeros(group.size, dtype=torch.float64)
    for s in group.slices:
        norms.index_add_(0, s.units, _squared_channel_norms(s).cpu().double()[s.channels])
    return norms


def _squared_channel_norms(s: Slice) -> torch.Tensor:
    """Return the squared L2 norm of each channel of a layer along the slice's axis, shape (channels,)."""
    weight = s.layer.weight.detach()
    if isinstance(s.layer, nn.Conv2d):
        return weight.pow(2).sum((1, 2, 3) if s.axis == "out" else (0, 2, 3))
    return weight.pow(2)
