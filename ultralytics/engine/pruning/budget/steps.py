# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which widths are worth keeping on a device whose time rises in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ultralytics.engine.pruning.budget.solver import CoupledGroups, Formula, per_group
from ultralytics.engine.pruning.graph.groups import Group


def without_steps(coupled: Sequence[CoupledGroups], formula: Formula) -> list[CoupledGroups]:
    """Allow only counts that cost less than every larger one: 24 channels that take as long as 32 are never kept.

    Args:
        coupled (Sequence[CoupledGroups]): Groups with allowed counts.
        formula (Formula): Cost of the network as a function of the units kept.

    Returns:
        (list[CoupledGroups]): The same with fewer counts, judged with all other groups whole.
    """
    whole = [c.counts[-1] for c in coupled]
    found = []
    for i, c in enumerate(coupled):
        costs = formula(np.array([per_group(coupled, [*whole[:i], k, *whole[i + 1 :]]) for k in c.counts]))
        least = np.minimum.accumulate(costs[::-1])[::-1]  # of this count and all larger ones
        counts = [k for k, cost, later in zip(c.counts, costs, [*least[1:], np.inf]) if cost < later]
        found.append(replace(c, counts=counts))
    return found


def on_steps(coupled: Sequence[CoupledGroups], groups: Sequence[Group], step: int) -> list[CoupledGroups]:
    """Allow only counts that leave layers whole or a multiple of channels.

    Args:
        coupled (Sequence[CoupledGroups]): Groups with allowed counts.
        groups (Sequence[Group]): Groups.
        step (int): Channels of which the device likes multiples.

    Returns:
        (list[CoupledGroups]): The same with fewer counts.
    """
    found = []
    for c in coupled:
        widths = [
            sum(row.step for row in c.rows if row.group == i) * groups[i].width for i in {r.group for r in c.rows}
        ]
        liked = [k for k in c.counts[:-1] if all(k * width % step == 0 for width in widths)]
        found.append(replace(c, counts=[*liked, c.counts[-1]]))
    return found
