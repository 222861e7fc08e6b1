# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budget solver: how many units each group keeps, so that the target is met."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.graph.places import inputs
from ultralytics.engine.pruning.graph.widths import Widths


class OutOfReachError(ValueError):
    """A target that cannot be met however much is removed.

    Attributes:
        reachable (float): Dense cost over the least cost that can be met.
    """

    def __init__(self, message: str, reachable: float):
        super().__init__(message)
        self.reachable = reachable

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes it in another process: workers raise it."""
        return type(self), (str(self), self.reachable), vars(self)


class Formula(Protocol):
    """Cost of a network as a function of how many units each group keeps: FLOPs or milliseconds.

    Attributes:
        dense (float): Cost with every unit kept.
        rest (float): What of it lies outside the layers.
        widths (Widths): Widths of the layers.
        has_steps (bool): Fewer units may cost as much, or more.
        step (int): Channels of which the device likes multiples, if it has steps.
        unit (str): What is counted, for messages.
        outside (str): Of what the rest is, for messages.
    """

    dense: float
    widths: Widths
    has_steps: bool
    step: int
    unit: str
    outside: str

    @property
    def rest(self) -> float:
        """Return the cost outside the layers."""

    def __call__(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the cost, shape (...), of units kept in each group, shape (..., groups)."""

    def costs(self, kept: Sequence[float] | np.ndarray) -> dict[nn.Module, float]:
        """Return the cost of each layer, in the order of the network, of units kept in each group, shape (groups,)."""


@dataclass(frozen=True)
class Row:
    """Units of one group among which the lowest go first.

    Attributes:
        group (int): Index of the group.
        units (torch.Tensor): Its units, or one of the equal parts of them.
        step (int): Units that go together with one unit of the narrowest row.
    """

    group: int
    units: torch.Tensor
    step: int


@dataclass(frozen=True)
class CoupledGroups:
    """Rows of groups that must keep the same number of units, or the same multiple, as ranks to remove from the bottom.

    Attributes:
        rows (list[Row]): The rows.
        scores (np.ndarray): Score of each rank, ascending, shape (n,): the mean over the rows of the scores of their
            units at that rank.
        counts (list[int]): Numbers of ranks that may be kept, ascending.
    """

    rows: list[Row]
    scores: np.ndarray
    counts: list[int]


def couple(
    groups: Sequence[Group],
    scores: Sequence[torch.Tensor],
    same_width: Iterable[tuple[nn.Conv2d, ...]],
    least: Sequence[float],
    global_pruning: bool = True,
    round_to: int = 8,
    equal_parts: Iterable[tuple[nn.Conv2d, int]] = (),
    equal_inputs: Iterable[tuple[nn.Conv2d, ...]] = (),
    wide_as_input: Iterable[tuple[nn.Conv2d, nn.Conv2d]] = (),
) -> list[CoupledGroups]:
    """Tie the groups of equally wide convolutions together and fix what each may keep.

    Args:
        groups (Sequence[Group]): Groups.
        scores (Sequence[torch.Tensor]): Scores of each group's units.
        same_width (Iterable[tuple[nn.Conv2d, ...]]): Convolutions that must keep equally many output channels.
        least (Sequence[float]): Units that each group must keep at least.
        global_pruning (bool): Compare scores between groups; otherwise every group loses the same share of units.
        round_to (int): Keep a multiple of this many channels, or all.
        equal_parts (Iterable[tuple[nn.Conv2d, int]]): Convolutions whose outputs must shrink alike in so many equal
            parts, i.e. heads.
        equal_inputs (Iterable[tuple[nn.Conv2d, ...]]): Convolutions that must keep equally many input channels of one
            group each, i.e. of the halves of a tensor.
        wide_as_input (Iterable[tuple[nn.Conv2d, nn.Conv2d]]): Convolutions that must keep as many outputs as the one
            beside them reads.

    Returns:
        (list[CoupledGroups]): Every unit in exactly one row of one of them.

    """
    owner = {s.layer: (i, s) for i, group in enumerate(groups) for s in group.convs("out")}
    cluster = list(range(len(groups)))
    whole: set[int] = set()  # groups that must be as wide as a layer that stays whole
    alike = [([owner[c][0] for c in convs if c in owner], all(c in owner for c in convs)) for convs in same_width]
    for conv, reader in wide_as_input:
        read = {i: len(s.channels) for i, group in enumerate(groups) for s in group.convs("in") if s.layer is reader}
        own = [owner[conv][0]] if conv in owner else []
        alike.append(([*own, *read], bool(own) and [*read.values()] == [inputs(reader)]))  # one tensor, all of it free
    for members, free in alike:
        whole |= set() if free else set(members)
        ties = {cluster[i] for i in members}
        cluster = [min(ties) if c in ties else c for c in cluster]
    least = [group.size if i in whole else at_least for i, (group, at_least) in enumerate(zip(groups, least))]
    parts = {}
    for conv, count in equal_parts:
        if conv in owner and owner[conv][1].is_single():
            i, s = owner[conv]
            parts[i] = s.units[s.channels.argsort()].view(count, -1)
    for convs in equal_inputs:
        shared = {i: group.shared_out(convs) for i, group in enumerate(groups)}
        parts |= {i: units for i, units in shared.items() if units is not None}
    return [
        _couple(
            [i for i, other in enumerate(cluster) if other == c], groups, scores, parts, least, global_pruning, round_to
        )
        for c in sorted(set(cluster))
    ]


def _couple(
    members: list[int],
    groups: Sequence[Group],
    scores: Sequence[torch.Tensor],
    parts: dict[int, torch.Tensor],
    least: Sequence[float],
    global_pruning: bool,
    round_to: int,
) -> CoupledGroups:
    whole = {i: parts.get(i, torch.arange(groups[i].size)[None]) for i in members}
    n = math.gcd(*(units.shape[1] for units in whole.values()))
    rows = [Row(i, units, len(units) // n) for i in members for units in whole[i]]
    ranked = torch.stack([scores[r.group][r.units].sort().values.view(n, r.step).mean(1) for r in rows]).mean(0).numpy()
    ranked = ranked if global_pruning else (np.arange(n) + 1) / n
    # 1e-9: 0.5 * 16 may come out above 8
    fewest = max(math.ceil(least[i] / (groups[i].size // n) - 1e-9) for i in members)
    multiple = round_to // math.gcd(round_to, *(groups[i].width for i in members))
    counts = [*(k for k in range(max(multiple, fewest), n) if k % multiple == 0), n]
    return CoupledGroups(rows, ranked, counts)


def solve_budget(coupled: Sequence[CoupledGroups], formula: Formula, limit: float) -> list[int]:
    """Return how many ranks the coupled groups keep, by score, so that the target is met and hardly exceeded.

    With all ranks sorted by score, bisect for the fewest removals that meet the target after rounding, then restore
    over-pruned channels, best first.

    Args:
        coupled (Sequence[CoupledGroups]): Groups with scores and allowed counts.
        formula (Formula): Cost of the network as a function of the units kept.
        limit (float): Cost to come down to; one that `floor.check_reachable` lets pass.

    Returns:
        (list[int]): Ranks kept in each of the coupled groups.
    """
    owner = np.concatenate([np.full(len(c.scores), i) for i, c in enumerate(coupled)])
    line = owner[np.argsort(np.concatenate([c.scores for c in coupled]), kind="stable")]
    removed_after = np.cumsum(line[:, None] == np.arange(len(coupled)), axis=0)

    def keep(removed: int) -> list[int]:
        gone = removed_after[removed - 1] if removed else np.zeros(len(coupled))
        return [_nearest(c.counts, len(c.scores) - g) for c, g in zip(coupled, gone)]

    def fits(counts: Sequence[int]) -> bool:
        return bool(formula(per_group(coupled, counts)) <= limit)

    low, high = 0, len(line)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(keep(middle)) else (middle + 1, high)
    return take_back(coupled, keep(low), fits)


def take_back(coupled: Sequence[CoupledGroups], counts: list[int], fits: Callable[[list[int]], bool]) -> list[int]:
    """Raise counts to the next allowed one, the group with the highest score among its removed ranks first.

    Args:
        coupled (Sequence[CoupledGroups]): Groups with scores and allowed counts.
        counts (list[int]): Ranks kept in each.
        fits (Callable): True for counts that meet the target.

    Returns:
        (list[int]): Ranks kept in each; raising any of them further would miss the target.
    """
    blocked: set[int] = set()
    while True:
        removed = [i for i, c in enumerate(coupled) if counts[i] < c.counts[-1] and i not in blocked]
        if not removed:
            return counts
        best = max(removed, key=lambda i: coupled[i].scores[len(coupled[i].scores) - counts[i] - 1])
        larger = next(k for k in coupled[best].counts if k > counts[best])
        trial = [*counts[:best], larger, *counts[best + 1 :]]
        if fits(trial):
            counts = trial
        else:
            blocked.add(best)


def _nearest(counts: Sequence[int], wanted: float) -> int:
    """Return the allowed count nearest to the wanted one, the larger of two equally near."""
    return min(counts, key=lambda k: (abs(k - wanted), -k))


def per_group(coupled: Sequence[CoupledGroups], counts: Sequence[int]) -> list[int]:
    """Return the units that each group keeps.

    Args:
        coupled (Sequence[CoupledGroups]): Coupled groups.
        counts (Sequence[int]): Ranks kept in each.

    Returns:
        (list[int]): Units kept, in the order of the groups.
    """
    kept: dict[int, int] = defaultdict(int)
    for c, count in zip(coupled, counts):
        for row in c.rows:
            kept[row.group] += count * row.step
    return [kept[i] for i in range(len(kept))]
