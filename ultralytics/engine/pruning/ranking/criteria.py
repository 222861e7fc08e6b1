# SPDX-License-Identifier: AGPL-3.0-or-later
"""Criteria: what each unit of a group is worth. The higher the score, the later the unit is removed.

A criterion takes a group of n units and returns n scores, float64. Scores are compared between groups in global
pruning; within a group only their order counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.places import per_channel

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.groups import Group, Slice


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
        (torch.Tensor): Scores of shape (n,).
    """
    energy = squared_norms(group)
    ascending = energy.argsort(stable=True)
    remaining = energy[ascending].flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(energy)
    # a group of zeros has no largest unit: score 0, the first to go
    scores[ascending] = torch.where(remaining > 0, energy[ascending] / remaining, remaining)
    return scores


def l1(group: Group) -> torch.Tensor:
    """Score units by the L1 norm of their weights (Li et al., ICLR 2017, arXiv 1608.08710), over the group's mean.

    The paper ranks within a layer. Dividing by the mean makes groups of different width and depth comparable, as
    DepGraph does (arXiv 2301.12900, section 3.3).

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Scores of shape (n,).
    """
    return _over_mean(_sum_units(group, lambda layer: layer.weight.detach().abs()))


def group_norm(group: Group) -> torch.Tensor:
    """Score units by the squared L2 norm of their weights (DepGraph, Fang et al., CVPR 2023, arXiv 2301.12900).

    DepGraph sums the squared norms of all parameters that go together and divides by the group's mean.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Scores of shape (n,).
    """
    return _over_mean(squared_norms(group))


def bn_scale(group: Group) -> torch.Tensor:
    """Score units by their batch norm scale (Network Slimming, Liu et al., ICCV 2017, arXiv 1708.06519).

    The paper ranks |γ| of all layers together as it is. A unit with several batch norms scores their mean.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Scores of shape (n,).

    Raises:
        ValueError: If the group has no batch norm.
    """
    return _mean_scale(group, torch.abs)


def bn_group_scale(group: Group) -> torch.Tensor:
    """Score units by the L2 norm of their batch norm scales over the root of their number.

    This is the norm that the group lasso on batch norm scales shrinks (Friedman, Hastie & Tibshirani 2010, arXiv
    1001.0736): where batch norms are coupled, a unit is small only if all of its scales are.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Scores of shape (n,).

    Raises:
        ValueError: If the group has no batch norm.
    """
    return _mean_scale(group, torch.square).sqrt()


def random(group: Group, seed: int) -> torch.Tensor:
    """Score units at random, uniform in [0, 1): the baseline that every criterion must beat.

    Args:
        group (Group): Group of n units; its name enters the draw, so that the order of the groups does not matter.
        seed (int): Seed.

    Returns:
        (torch.Tensor): Scores of shape (n,), the same for the same seed and group.
    """
    generator = torch.Generator().manual_seed(crc32(f"{seed} {group.name}".encode()))
    return torch.rand(group.size, generator=generator, dtype=torch.float64)


def taylor(group: Group) -> torch.Tensor:
    """Score units by the first-order Taylor estimate of the loss change (Molchanov et al., CVPR 2019).

    With S the weights w that a unit holds in one layer and g their gradients, removing it changes the loss by about
    sum_S g·w; the paper scores it by the square (arXiv 1906.10771, equation 8). A group's layers give one estimate
    each of the same change, so their squares are averaged. Call it with gradients in place; scores of several batches
    are averaged, and then `balanced`, by the caller.

    Args:
        group (Group): Group of n units, whose layers' weights have `.grad`.

    Returns:
        (torch.Tensor): Scores of shape (n,).
    """
    scores = torch.zeros(group.size, dtype=torch.float64)
    for s in group.slices:
        scores += _to_units(s, _loss_changes(s.layer), group.size).pow(2)
    return scores / len(group.slices)


def hessian(group: Group) -> torch.Tensor:
    """Score units by optimal brain damage (LeCun, Denker & Solla, NeurIPS 1989): half the sum of h·w^2.

    The diagonal h of the Hessian is estimated by the squared gradient of one sample's loss, averaged over samples by
    the caller (the empirical Fisher information), who has them `balanced` then. A group's layers give one estimate
    each, which are averaged.

    Args:
        group (Group): Group of n units, whose layers' weights have `.grad` of a single sample's loss.

    Returns:
        (torch.Tensor): Scores of shape (n,).
    """
    return _sum_units(group, lambda layer: _loss_changes(layer).pow(2) / 2) / len(group.slices)


def balanced(scores: torch.Tensor) -> torch.Tensor:
    """Divide loss changes by the square root of their group's mean, so that groups can be compared.

    An estimated loss change compares units well that go one at a time. When many units of a group go, the changes no
    longer add up, and a ranking of all groups by the estimate alone (Molchanov et al., CVPR 2019) empties whole
    layers; a ranking by each unit's share of its group's mean (DepGraph, arXiv 2301.12900, section 3.3) ignores what
    the groups are worth. This is the geometric mean of the two. benchmarks/README.md has what each leaves.

    Args:
        scores (torch.Tensor): Estimated loss change of each unit, shape (n,).

    Returns:
        (torch.Tensor): Scores of shape (n,), in the same order; scores that are all zero stay so.
    """
    return _over_mean(scores, power=0.5)


def squared_norms(group: Group) -> torch.Tensor:
    """Return the squared L2 norm of all weights that each unit holds, summed over the group's layers.

    Convolution weights (rows for outputs, columns for inputs) and batch norm scales count, biases do not.

    Args:
        group (Group): Group of n units.

    Returns:
        (torch.Tensor): Squared norms of shape (n,).
    """
    return _sum_units(group, lambda layer: layer.weight.detach().pow(2))


def _mean_scale(group: Group, measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the mean of a measure of the batch norm scales that each unit holds."""
    norms = [s for s in group.slices if isinstance(s.layer, _BatchNorm)]
    if not norms:
        raise ValueError(
            f"no batch norm belongs to the outputs of '{group.name}', and this prune_method ranks by batch norm "
            "scales: choose another, i.e. prune_method=lamp."
        )
    none = torch.zeros(group.size, dtype=torch.float64)
    totals = sum((_to_units(s, measure(s.layer.weight.detach()), group.size) for s in norms), none)
    return totals / (sum(len(s.channels) for s in norms) / group.size)


def _sum_units(group: Group, measure: Callable[[nn.Module], torch.Tensor]) -> torch.Tensor:
    """Add up a measure of every weight over the weights that each unit holds in all layers."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for s in group.slices:
        total += _to_units(s, measure(s.layer), group.size)
    return total


def _to_units(s: Slice, values: torch.Tensor, size: int) -> torch.Tensor:
    """Sum values of the shape of a layer's weight over the units of a slice."""
    channels = per_channel(s.layer, s.axis, values).cpu().double()
    return torch.zeros(size, dtype=torch.float64).index_add_(0, s.units, channels[s.channels])


def _loss_changes(layer: nn.Module) -> torch.Tensor:
    """Return g·w for every weight of a layer; zero for a layer that the loss does not depend on."""
    weight = layer.weight.detach()
    return torch.zeros_like(weight) if layer.weight.grad is None else layer.weight.grad * weight


def _over_mean(scores: torch.Tensor, power: float = 1.0) -> torch.Tensor:
    """Divide scores by a power of their mean; scores that are all zero stay so."""
    return scores / scores.mean().pow(power).clamp_min(torch.finfo(scores.dtype).tiny)
