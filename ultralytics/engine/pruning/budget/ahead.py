# SPDX-License-Identifier: AGPL-3.0-or-later
"""What can be known of a cut before it is made: which groups stand it, and whether its target is within reach."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from ultralytics.engine.pruning.budget.floor import check_reachable
from ultralytics.engine.pruning.budget.selection import best_units, couple_groups
from ultralytics.engine.pruning.budget.steps import without_steps
from ultralytics.engine.pruning.budget.target import Budget, build_cost, wanted_ratio
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.engine.pruning.surgery.history import History
from ultralytics.engine.pruning.surgery.oracle import Channels
from ultralytics.engine.pruning.surgery.proof import WrongCutError, prove_cut
from ultralytics.engine.pruning.surgery.wrong import WrongBlocks
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock

SHARE = 0.5  # of its units that every group loses in the cut that is proved


def proven_graph(model: nn.Module, needs_norms: bool = False) -> Graph:
    """Return the graph of a model whose groups have all lost units in a cut that was proved, and thrown away.

    Args:
        model (nn.Module): Stock model; it is left as it was.
        needs_norms (bool): Leave groups without a batch norm whole, for a method that ranks by batch norms.

    Returns:
        (Graph): Graph of a copy in prunable form.

    Raises:
        ValueError: If the model is random in evaluation or its outputs are not finite.
        WrongCutError: If cuts are wrong in too many places.
    """
    wrong = WrongBlocks(model)
    while True:
        graph = wrong.sound_graph(prunable_copy(model), needs_norms)
        try:
            _prove_half(model, graph)
        except WrongCutError as error:
            wrong.learn(error)
        else:
            return graph


def _prove_half(model: nn.Module, graph: Graph) -> None:
    """Cut units chosen at random from a copy of the graph's model, and compare it with the stock model."""
    generator = torch.Generator().manual_seed(0)
    scores = [torch.rand(size, dtype=torch.float64, generator=generator) for size in graph.sizes]
    coupled = couple_groups(graph, scores, Budget(round_to=1), graph.sizes)
    counts = [min(c.counts, key=lambda count: abs(count - SHARE * len(c.scores))) for c in coupled]
    pruned, channels = cut_copy(graph, best_units(graph.groups, coupled, counts, scores))
    prove_cut(model, pruned, channels, graph.has_doubts)


def cut_copy(graph: Graph, units: list[torch.Tensor]) -> tuple[nn.Module, Channels]:
    """Cut a copy of a graph's model, which is left as it was.

    Args:
        graph (Graph): Graph.
        units (list[torch.Tensor]): Indices of the units to keep, for each group.

    Returns:
        pruned (nn.Module): The copy, of stock classes.
        channels (Channels): The channels that it keeps.
    """
    copy, groups = deepcopy((graph.model, graph.groups))
    history, kept = History(copy), channels_to_keep(copy, groups, units)
    history.note(kept)
    cut(copy, kept)
    return to_stock(copy), history.channels()


def check_target(model: nn.Module, budget: Budget, needs_norms: bool = False) -> None:
    """Check that a target is within reach, which does not depend on weights: before they are trained.

    Args:
        model (nn.Module): Stock model; it is left as it was.
        budget (Budget): What it may cost.
        needs_norms (bool): Groups without a batch norm stay whole.

    Raises:
        OutOfReachError: If it is not.
    """
    graph = proven_graph(model, needs_norms)
    cost = build_cost(model, budget)
    formula, ratio = cost.formula(graph), wanted_ratio(cost, budget)
    scores = [torch.zeros(size, dtype=torch.float64) for size in graph.sizes]
    coupled = couple_groups(graph, scores, budget, graph.sizes)
    if formula.has_steps:
        coupled = without_steps(coupled, formula)
    check_reachable(graph, coupled, formula, budget, ratio, formula.dense)
