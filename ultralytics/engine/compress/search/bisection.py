# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which target to try next, on the way to the largest one whose fine-tuned model is still accurate enough."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

START = 2.0  # target of the first try
CEILING = 16.0  # largest target
TOLERANCE = 1.1  # ratio of two targets that are not told apart
SHORT_TRIES, WHOLE_TRIES = 6, 3  # at most
UNLIKE = 1e-6  # of two metrics, of which one is accurate enough and the other is not


class Try(NamedTuple):
    """A target and for how long its cut is fine-tuned.

    Attributes:
        speed_up (float): Dense cost over pruned cost.
        whole (bool): For all epochs, not for the few that predict.
    """

    speed_up: float
    whole: bool


Found = dict[Try, float]  # main metric after each try


def next_try(found: Found, wanted: float, ceiling: float = CEILING, uncounted: Collection[Try] = ()) -> Try | None:
    """Return what to try next, None when the search has ended.

    Short fine-tunings bisect the targets on a logarithmic scale, and a whole one tests the largest that they promise.
    What a whole fine-tuning adds to a short one is known from the first target, which has both, and from those that are
    tested later. One that misses is a bound from then on: the next one steps back.

    Args:
        found (dict[Try, float]): Metric after each try so far.
        wanted (float): Least metric that is accurate enough.
        ceiling (float): Largest target that can be reached.
        uncounted (Collection[Try]): Tries that do not count towards the limits.
    """
    short, whole = ({t.speed_up: metric for t, metric in found.items() if t.whole is kind} for kind in (False, True))
    if not whole:  # first, since it trains and checks all that others take over
        return Try(min(START, ceiling), whole=True)
    if not short:
        return Try(next(iter(whole)), whole=False)
    shorts, wholes = (sum(t.whole is kind for t in found.keys() - set(uncounted)) for kind in (False, True))
    if wholes == WHOLE_TRIES:
        return None
    passed = best_target(found, wanted) or 1.0
    missed = min((s for s, metric in whole.items() if s > passed), default=math.inf)
    predicted = {s: metric + gain(s, short, whole) for s, metric in short.items() if passed < s < missed}
    low = max((s for s, metric in predicted.items() if metric >= wanted), default=passed)
    high = min((s for s in predicted if s > low), default=missed)
    middle = min(2 * low, ceiling) if high == math.inf else round(math.sqrt(low * high), 2)
    is_wide = min(high, ceiling) > low * TOLERANCE
    if is_wide and shorts < SHORT_TRIES * max(wholes, 1) / (WHOLE_TRIES - 1):
        return Try(middle, whole=False)
    if low > passed:
        return Try(low, whole=True)
    if is_wide:  # all that is predicted misses, and predictions err
        return Try(high if high < missed else middle, whole=True)
    smallest = min(short)
    return Try(smallest, whole=True) if passed == 1.0 and smallest not in whole else None


def next_tries(found: Found, wanted: float, ceiling: float, uncounted: Collection[Try], count: int) -> list[Try]:
    """Return what to try next, and what may have to be tried after that, whatever comes of it.

    Args:
        found (dict[Try, float]): Metric after each try so far.
        wanted (float): Least metric that is accurate enough.
        ceiling (float): Largest target that can be reached.
        uncounted (Collection[Try]): Tries that do not count towards the limits.
        count (int): Tries at most.

    Returns:
        (list[Try]): Tries, that of `next_try` first and those that depend on few others before those that depend on
            many; none when the search has ended.
    """
    tries: list[Try] = []
    outcomes = [found]
    while outcomes and len(tries) < count:
        known = outcomes.pop(0)
        if tried := next_try(known, wanted, ceiling, uncounted):
            tries += [] if tried in tries else [tried]
            outcomes += [{**known, tried: metric} for metric in decisive_metrics(tried, known, wanted)]
    return tries


def decisive_metrics(tried: Try, found: Found, wanted: float) -> list[float]:
    """Return metrics of a try, one for each way in which a search may go on after it.

    Args:
        tried (Try): The try.
        found (dict[Try, float]): Metric after each try before it.
        wanted (float): Least metric that is accurate enough, infinite before the first try, which tells it.
    """
    short, whole = ({t.speed_up: metric for t, metric in found.items() if t.whole is kind} for kind in (False, True))
    if math.isinf(wanted):
        return [] if found else [0.0]
    if not short:  # the first of them predicts what the whole one at the same target has been
        return [whole[tried.speed_up]]
    limit = wanted - (0.0 if tried.whole else gain(tried.speed_up, short, whole))
    return [limit - UNLIKE, limit + UNLIKE]


def best_target(found: Found, wanted: float) -> float | None:
    """Return the largest target whose model was accurate enough after a whole fine-tuning, None if none was."""
    return max((t.speed_up for t, metric in found.items() if t.whole and metric >= wanted), default=None)


def gain(speed_up: float, short: dict[float, float], whole: dict[float, float]) -> float:
    """Return what a whole fine-tuning adds to a short one: linear in the logarithm of the target, by the nearest two.

    Args:
        speed_up (float): Target.
        short (dict[float, float]): Target to metric after a short fine-tuning.
        whole (dict[float, float]): The same after a whole one; a target or more is in both.
    """
    known = sorted(short.keys() & whole.keys(), key=lambda s: abs(math.log(s / speed_up)))[:2]
    gains = [whole[s] - short[s] for s in known]
    if len(known) == 1:
        return gains[0]
    return gains[0] + (gains[1] - gains[0]) * math.log(speed_up / known[0]) / math.log(known[1] / known[0])
