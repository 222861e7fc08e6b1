# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which target to try next, on the way to the largest one whose fine-tuned model is still accurate enough."""

from __future__ import annotations

import math
from collections.abc import Collection

START = 2.0  # first target
CEILING = 16.0  # largest target
TOLERANCE = 1.1  # ratio of two targets that are not told apart
TRIES = 4  # at most
UNLIKE = 1e-6  # of two metrics, of which one is accurate enough and the other is not

Found = dict[float, float]  # target to the main metric of its fine-tuned model


def next_target(
    found: Found, wanted: float, ceiling: float = CEILING, uncounted: Collection[float] = ()
) -> float | None:
    """Return the target to try next, None when the search has ended.

    It is doubled until a try misses, then the largest that has passed and the smallest above it are bisected on a
    logarithmic scale.

    Args:
        found (dict[float, float]): Metric of each target so far.
        wanted (float): Least metric that is accurate enough.
        ceiling (float): Largest target that can be reached.
        uncounted (Collection[float]): Targets that do not count towards the limit.
    """
    if len(found.keys() - uncounted) == TRIES:
        return None
    if not found:
        return min(START, ceiling)
    passed = best_target(found, wanted) or 1.0
    missed = min((target for target in found if target > passed), default=math.inf)
    if missed == math.inf:
        return min(2 * passed, ceiling) if ceiling > passed * TOLERANCE else None
    return round(math.sqrt(passed * missed), 2) if missed > passed * TOLERANCE else None


def next_targets(found: Found, wanted: float, ceiling: float, uncounted: Collection[float], count: int) -> list[float]:
    """Return the target to try next, and those that may have to be tried after it, whatever comes of it.

    Args:
        found (dict[float, float]): Metric of each target so far.
        wanted (float): Least metric that is accurate enough, infinite before the first try, which tells it.
        ceiling (float): Largest target that can be reached.
        uncounted (Collection[float]): Targets that do not count towards the limit.
        count (int): Targets at most.

    Returns:
        (list[float]): Targets, that of `next_target` first and those that depend on few others before those that
            depend on many; none when the search has ended.
    """
    targets: list[float] = []
    outcomes = [found]
    while outcomes and len(targets) < count:
        known = outcomes.pop(0)
        if target := next_target(known, wanted, ceiling, uncounted):
            targets += [] if target in targets else [target]
            if not math.isinf(wanted):
                outcomes += [{**known, target: metric} for metric in (wanted - UNLIKE, wanted + UNLIKE)]
    return targets


def best_target(found: Found, wanted: float) -> float | None:
    """Return the largest target whose model was accurate enough, None if none was."""
    return max((target for target, metric in found.items() if metric >= wanted), default=None)
