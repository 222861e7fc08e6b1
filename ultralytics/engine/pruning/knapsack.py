# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budget solver for costs with steps: how many units each group keeps, by importance per cost saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultralytics.engine.pruning.budget import CoupledGroups, Formula, OutOfReachError, per_group, take_back


def solve_knapsack(coupled: Sequence[CoupledGroups], formula: Formula, limit: float) -> list[int]:
    """Return how many ranks the coupled groups keep, so that little importance is lost for the cost that is saved.

    A greedy solution of the knapsack of HALP (Shen et al. 2022, arXiv 2110.10811): again and again, the coupled group
    shrinks that loses the least importance per cost saved, by as many ranks as make that ratio smallest, until the
    cost meets the limit. Costs of groups depend on each other, so they are worked out anew after every step.

    Args:
        coupled (Sequence[CoupledGroups]): Groups with scores, whose sums are importances, and allowed counts.
        formula (Formula): Cost of the network as a function of the units kept.
        limit (float): Cost to come down to; one that `check_reachable` lets pass.

    Returns:
        (list[int]): Ranks kept in each of the coupled groups.

    Raises:
        OutOfReachError: If the limit is out of reach.
    """
    per_rank = _units_per_rank(coupled)
    lost = [np.cumsum([0.0, *c.scores]) * units.sum() for c, units in zip(coupled, per_rank)]  # by ranks removed
    affected = per_rank.astype(bool) @ formula.widths.share_a_layer() @ per_rank.T.astype(bool)
    counts = [c.counts[-1] for c in coupled]
    kept = np.array(per_group(coupled, counts), dtype=float)
    cost = float(formula(kept))
    moves: dict[int, tuple[float, int]] = {}
    stale = range(len(coupled))
    while cost > limit:
        for i in stale:
            moves[i] = _best_move(coupled[i], counts[i], lost[i], per_rank[i], kept, cost, formula)
        best = min(moves, key=lambda i: moves[i][0])
        if not np.isfinite(moves[best][0]):
            raise OutOfReachError(f"a cost of {limit:.3g} cannot be reached: every layer is at its smallest.")
        kept = kept - per_rank[best] * (counts[best] - moves[best][1])
        counts[best] = moves[best][1]
        cost = float(formula(kept))
        stale = np.flatnonzero(affected[best])
    return take_back(coupled, counts, lambda trial: formula(per_group(coupled, trial)) <= limit)


def _units_per_rank(coupled: Sequence[CoupledGroups]) -> np.ndarray:
    """Return how many units of each group go with one rank of each of the coupled groups, shape (coupled, groups)."""
    one = [per_group(coupled, [int(i == j) for j in range(len(coupled))]) for i in range(len(coupled))]
    return np.array(one, dtype=float)


def _best_move(
    group: CoupledGroups,
    count: int,
    lost: np.ndarray,
    units: np.ndarray,
    kept: np.ndarray,
    cost: float,
    formula: Formula,
) -> tuple[float, int]:
    """Return the least importance lost per cost saved, and the count to which the coupled group shrinks for it."""
    fewer = np.array([k for k in group.counts if k < count])
    if not len(fewer):
        return np.inf, count
    saved = cost - formula(kept - (count - fewer)[:, None] * units)
    n = len(group.scores)
    ratio = (lost[n - fewer] - lost[n - count]) / np.maximum(saved, 1e-9 * cost)  # narrower may be no faster
    best = int(np.argmin(ratio))
    return float(ratio[best]), int(fewer[best])
