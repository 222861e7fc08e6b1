# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sensitivity: what the network loses when one layer alone, with those that must be as wide, loses channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from ultralytics.engine.pruning.budget.ahead import cut_copy, proven_graph
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.selection import best_units, couple_groups
from ultralytics.engine.pruning.budget.solver import CoupledGroups
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.ranking.methods import Method
from ultralytics.engine.pruning.ranking.scoring import Losses, score_groups
from ultralytics.utils import TQDM

RATIOS = (0.25, 0.5, 0.75)  # shares of channels removed


def measure_sensitivity(
    model: nn.Module,
    accuracy: Callable[[nn.Module], float],
    method: Method,
    losses: Losses | None = None,
    seed: int = 0,
    known: Iterable[dict[str, Any]] = (),
    on_row: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Measure the accuracy with every set of coupled groups pruned alone, at each of `RATIOS`.

    Args:
        model (nn.Module): Unfused Ultralytics model; it is left as it was.
        accuracy (Callable): Model to its accuracy, higher is better; may change the model that it gets.
        method (Method): A row of `METHODS`, by which the channels are ranked.
        losses (Callable, optional): For methods that need gradients, see `prune_model`.
        seed (int): Seed of method 'random'.
        known (Iterable[dict]): Rows of an interrupted run, which are not measured again.
        on_row (Callable): Is given all rows after each measurement, so that none is lost.

    Returns:
        (list[dict[str, Any]]): First the dense model, with ratio 0, then in the order of the network; groups that must
            stay whole, because a layer does that must be as wide, have no row. A row has 'layers' (names of the groups,
            joined by spaces), 'ratio' (share of channels to remove), 'width' and 'kept' (channels of the first group),
            'flops_saved' (share of the model's FLOPs), 'accuracy' and 'drop' (dense accuracy less this).
    """
    graph = proven_graph(model, method.needs_norms)
    formula = FlopsFormula(graph)
    scores = score_groups(graph.model, graph.groups, method, losses, seed)
    coupled = couple_groups(graph, scores, Budget(round_to=1), graph.sizes)
    order = {name: i for i, (name, _) in enumerate(graph.model.named_modules())}
    coupled.sort(key=lambda c: order[graph.groups[c.rows[0].group].name])
    done = {(row["layers"], row["ratio"]): row for row in known}
    whole = [len(c.scores) for c in coupled]
    plan: list[tuple[CoupledGroups | None, float]] = [(None, 0.0)]
    plan += [(c, ratio) for c in coupled if len(c.counts) > 1 for ratio in RATIOS]  # others must stay whole
    rows: list[dict[str, Any]] = []
    for c, ratio in TQDM(plan, desc="Sensitivity"):
        layers = layer_names(graph, c) if c else ""
        if (layers, ratio) not in done:
            counts = [max(round((1 - ratio) * n), 1) if other is c else n for other, n in zip(coupled, whole)]
            units = best_units(graph.groups, coupled, counts, scores)
            first = c.rows[0].group if c else 0
            figure = accuracy(cut_copy(graph, units)[0])
            done[layers, ratio] = {
                "layers": layers,
                "ratio": ratio,
                "width": graph.groups[first].size,
                "kept": len(units[first]),
                "flops_saved": 1 - formula([len(u) for u in units]) / formula.dense,
                "accuracy": figure,
                "drop": (rows[0]["accuracy"] if rows else figure) - figure,
            }
        rows.append(done[layers, ratio])
        on_row(rows)
    return rows


def layer_names(graph: Graph, coupled: CoupledGroups) -> str:
    """Return the names of coupled groups, joined by spaces."""
    return " ".join(dict.fromkeys(graph.groups[row.group].name for row in coupled.rows))


def limits_from(rows: Iterable[Mapping[str, Any]], largest_drop: float) -> dict[str, float]:
    """Return how much each group may lose, so that it alone costs no more than a given drop.

    Args:
        rows (Iterable[dict]): What `measure_sensitivity` returned.
        largest_drop (float): Largest drop of accuracy that a group may cause by itself.

    Returns:
        (dict[str, float]): Name of the group to the largest measured ratio, up to which no drop is larger; 0 if every
            one is.
    """
    limits: dict[str, float] = {}
    exceeded = set()
    for row in sorted(rows, key=lambda row: row["ratio"]):
        for name in row["layers"].split():
            limits.setdefault(name, 0.0)
            if not row["drop"] <= largest_drop:  # nan is no small drop
                exceeded.add(name)
            if name not in exceeded:
                limits[name] = row["ratio"]
    return limits
