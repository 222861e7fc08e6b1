# SPDX-License-Identifier: AGPL-3.0-or-later
"""Choose which units a budget leaves, from their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ultralytics.engine.pruning.budget.floor import check_reachable
from ultralytics.engine.pruning.budget.solver import CoupledGroups, Formula, couple, per_group, solve_budget
from ultralytics.engine.pruning.budget.steps import on_steps, without_steps
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph, Group
from ultralytics.nn.extra_modules.prunable import equal_inputs, equal_parts, same_width, wide_as_input


def select_units(
    graph: Graph,
    formula: Formula,
    scores: Sequence[torch.Tensor],
    budget: Budget,
    dense_cost: float,
    dense_sizes: Sequence[float],
    ratio: float,
    share: float = 1.0,
) -> list[torch.Tensor]:
    """Return the units of every group that are worth keeping.

    Args:
        graph (Graph): Groups of the network as it is.
        formula (Formula): What it costs.
        scores (Sequence[torch.Tensor]): Scores of each group's units.
        budget (Budget): How much each layer may lose, and the target's name.
        dense_cost (float): What it cost before the first cut.
        dense_sizes (Sequence[float]): Units of each group before the first cut.
        ratio (float): What it cost before the first cut over what it may cost.
        share (float): How far to go towards the target, as an exponent of its ratio.

    Returns:
        (list[torch.Tensor]): Indices of the units to keep, for each group.

    Raises:
        ValueError: If the target is out of reach.
    """
    coupled = every = couple_groups(graph, scores, budget, dense_sizes)
    if formula.has_steps:
        coupled = without_steps(every, formula)
    check_reachable(graph, coupled, formula, budget, ratio, dense_cost)
    limit = dense_cost / ratio**share
    if formula.has_steps:
        liked = without_steps(on_steps(every, graph.groups, formula.step), formula)
        if formula(per_group(liked, [c.counts[0] for c in liked])) <= limit:
            coupled = liked
    counts = solve_budget(coupled, formula, limit)
    return best_units(graph.groups, coupled, counts, scores)


def couple_groups(
    graph: Graph, scores: Sequence[torch.Tensor], budget: Budget, dense_sizes: Sequence[float]
) -> list[CoupledGroups]:
    """Couple the groups of a network by what its blocks ask for and a budget allows.

    Args:
        graph (Graph): Groups of the network as it is.
        scores (Sequence[torch.Tensor]): Scores of each group's units.
        budget (Budget): What it may cost.
        dense_sizes (Sequence[float]): Units of each group before the first cut.

    Returns:
        (list[CoupledGroups]): Coupled groups with scores and allowed counts.
    """
    return couple(
        graph.groups,
        scores,
        same_width(graph.model),
        [(1 - budget.largest_share(group)) * size for group, size in zip(graph.groups, dense_sizes)],
        budget.global_pruning,
        budget.round_to,
        equal_parts(graph.model),
        equal_inputs(graph.model),
        wide_as_input(graph.model),
    )


def best_units(
    groups: Sequence[Group], coupled: Sequence[CoupledGroups], counts: Sequence[int], scores: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the units of every group with the highest scores.

    Args:
        groups (Sequence[Group]): Groups.
        coupled (Sequence[CoupledGroups]): How they are coupled.
        counts (Sequence[int]): Ranks kept in each of the coupled groups.
        scores (Sequence[torch.Tensor]): Scores of each group's units.

    Returns:
        (list[torch.Tensor]): Indices of the units, for each group.
    """
    kept: list[list[torch.Tensor]] = [[] for _ in groups]
    for c, count in zip(coupled, counts):
        for row in c.rows:
            best = scores[row.group][row.units].topk(count * row.step).indices
            kept[row.group].append(row.units[best])
    return [torch.cat(units) for units in kept]
