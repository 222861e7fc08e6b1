# SPDX-License-Identifier: AGPL-3.0-or-later
"""What stays whole, why, and what it costs: the floor under every budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ultralytics.engine.pruning.budget.solver import CoupledGroups, Formula, OutOfReachError, per_group
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.whole import KeptWhole, kept_whole
from ultralytics.engine.pruning.graph.groups import Graph, Group
from ultralytics.engine.pruning.graph.places import MAKERS, width

NAMED = 3  # entries that an error names
LEAST = 0.01  # share of the dense cost from which on it does
OUTSIDE = 1e-6  # share from which on there is something outside all layers: what is less comes of rounding


@dataclass(frozen=True)
class Floor:
    """A network with every group at the least that it may keep.

    Attributes:
        held (dict[str, str]): Layers of groups that keep all their channels, or of none, and why.
        shares (dict[str, float]): Layers that keep all their outputs to the share of the dense cost that is left in
            them; what lies outside all layers under the formula's name for it.
        reachable (float): Dense cost over the cost of that network.
        without (float): The same of the network without those layers.
    """

    held: dict[str, str]
    shares: dict[str, float]
    reachable: float
    without: float


def find_floor(
    graph: Graph, coupled: Sequence[CoupledGroups], formula: Formula, budget: Budget, dense_cost: float
) -> Floor:
    """Return what is left of a network when every group keeps the least that it may.

    Args:
        graph (Graph): Graph of the network as it is.
        coupled (Sequence[CoupledGroups]): Its groups with allowed counts.
        formula (Formula): What it costs.
        budget (Budget): What has bounded the counts.
        dense_cost (float): What it cost before the first cut.

    Returns:
        (Floor): The floor.
    """
    least = per_group(coupled, [c.counts[0] for c in coupled])
    held = {**_held(graph, coupled, budget), **_beyond(graph, formula)}
    whole = graph.left_dense.keys() | held.keys()
    floor = _by_maker(graph, formula.costs(least), whole)
    dense = _by_maker(graph, formula.costs(formula.widths.sizes), whole)
    if formula.rest > OUTSIDE * dense_cost:
        floor[formula.outside] = dense[formula.outside] = formula.rest
    cost = float(formula(least))
    rest = cost - sum(floor.values())
    return Floor(
        held,
        {name: c / dense_cost for name, c in floor.items()},
        dense_cost / cost,
        (dense_cost - sum(dense.values())) / rest if rest > 0 else float("inf"),
    )


def check_reachable(
    graph: Graph, coupled: Sequence[CoupledGroups], formula: Formula, budget: Budget, ratio: float, dense_cost: float
) -> None:
    """Check a target against what is left when every group keeps the least that it may.

    Args:
        graph (Graph): Graph of the network as it is.
        coupled (Sequence[CoupledGroups]): Its groups with allowed counts.
        formula (Formula): Cost of the network as a function of the units kept.
        budget (Budget): The target as it was given, and what has bounded the counts.
        ratio (float): Dense cost over pruned cost to be met.
        dense_cost (float): Dense cost.

    Raises:
        OutOfReachError: If the target is out of reach; it names what stays whole.
    """
    floor = find_floor(graph, coupled, formula, budget, dense_cost)
    if floor.reachable >= ratio:
        return
    change = "Lower speed_up" if budget.target is None else "Raise target"
    entries = [e for e in kept_whole(graph.left_dense | floor.held, floor.shares) if e.share >= LEAST]
    raise OutOfReachError(
        f"'{budget.asked}' cannot be reached: with every layer at its smallest the speed-up is "
        f"{floor.reachable:.2f}.{_holders(entries, floor, formula.unit)} {change}, or lower round_to, or raise "
        "max_sparsity or sensitivity_drop.",
        floor.reachable,
    )


def _holders(entries: list[KeptWhole], floor: Floor, unit: str) -> str:
    """Return what keeps a target out of reach, in words."""
    if not entries:
        return ""
    named = ", ".join(f"{e.share:.0%} in {e.place} ({e.reason})" for e in entries[:NAMED])
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return (
        f" {sum(e.share for e in entries):.0%} of the {unit} stay whole: {named}{more}; without them the rest of the "
        f"network could be reduced by {floor.without:.2f}."
    )


def _held(graph: Graph, coupled: Sequence[CoupledGroups], budget: Budget) -> dict[str, str]:
    """Return the layers of groups that may keep nothing but all their units, and why."""
    held: dict[str, str] = {}
    for c in coupled:
        if len(c.counts) > 1:
            continue
        members = [graph.groups[i] for i in dict.fromkeys(row.group for row in c.rows)]
        own = {group.name: _bound(group, len(c.scores), budget) for group in members}
        for group in members:
            partners = [other.name for other in members if own[other.name]]
            reason = own[group.name] or (
                f"it must be as wide as {partners[0]}, which stays whole" if partners else "a layer as wide stays whole"
            )
            held.update({graph.names[s.layer]: reason for s in group.convs("out")})
    return held


def _beyond(graph: Graph, formula: Formula) -> dict[str, str]:
    """Return the layers that no channels lead to, as those of a decoder behind projections that stay whole."""
    grouped = {s.layer for group in graph.groups for s in group.slices if s.axis == "out"}
    names = (graph.names[m] for m in formula.costs(formula.widths.sizes) if isinstance(m, MAKERS) and m not in grouped)
    return {name: "it lies behind layers that stay whole" for name in names if name not in graph.left_dense}


def _bound(group: Group, ranks: int, budget: Budget) -> str:
    """Return which value of the budget keeps all units of a group, if one does."""
    if ranks == 1:
        return "all its channels go together"
    next_width = (ranks - 1) // budget.round_to * budget.round_to
    if next_width == 0:
        return f"round_to={budget.round_to} allows no smaller width"
    if (1 - budget.largest_share(group)) * ranks > next_width:
        bound = "sensitivity_drop" if budget.largest_share(group) < budget.max_sparsity else "max_sparsity"
        return f"{bound} and round_to={budget.round_to} allow no smaller width"
    return ""


def _by_maker(graph: Graph, costs: dict[nn.Module, float], whole: set[str]) -> dict[str, float]:
    """Return the cost of each layer that stays whole, with that of the norm or attention behind it."""
    found: dict[str, float] = {}
    maker, channels = "", 0
    for layer, cost in costs.items():  # in the order of the forward pass
        if isinstance(layer, MAKERS):
            maker, channels = graph.names[layer], width(layer, "out")
        if maker in whole and width(layer, "out") == channels:
            found[maker] = found.get(maker, 0.0) + cost
    return found
