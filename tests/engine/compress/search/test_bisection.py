# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which target a search tries next, on made-up curves of accuracy against target."""

import math
import random

import pytest

from ultralytics.engine.compress.search.bisection import (
    CEILING,
    SHORT_TRIES,
    START,
    WHOLE_TRIES,
    Try,
    best_target,
    gain,
    next_try,
)

DENSE = 0.5


def falling(slope, power, offset=0.0):
    """Return the metric of a whole fine-tuning by target, for a curve that falls by `slope` at 2x."""
    return lambda s: DENSE + offset - slope * math.log2(s) ** power


def run(curve, wanted, behind=0.04, more_behind=0.03, noise=0.0, ceiling=CEILING, seed=0):
    """Search on a curve, behind which short fine-tunings are, the more the larger the target."""
    rng, found = random.Random(seed), {}
    while tried := next_try(found, wanted, ceiling):
        assert tried not in found and 1 < tried.speed_up <= ceiling
        shortfall = 0.0 if tried.whole else behind + more_behind * math.log2(tried.speed_up)
        found[tried] = curve(tried.speed_up) - shortfall + rng.gauss(0, noise)
        kinds = [t.whole for t in found]
        assert kinds.count(False) <= SHORT_TRIES and kinds.count(True) <= WHOLE_TRIES
    return found


def largest(curve, wanted):
    """Return the largest target that is accurate enough, by a fine sweep."""
    return max((s / 100 for s in range(101, round(100 * CEILING) + 1) if curve(s / 100) >= wanted), default=None)


CURVES = [(0.002, 1), (0.002, 2), (0.005, 1), (0.005, 1.5), (0.01, 2), (0.02, 1.5), (0.05, 1), (0.05, 2)]


@pytest.mark.parametrize("drop", [0.003, 0.005, 0.01])
@pytest.mark.parametrize(("slope", "power"), CURVES)
@pytest.mark.parametrize("more_behind", [0.0, 0.02, 0.05])
def test_what_is_found_keeps_the_accuracy_and_is_near_the_best(slope, power, drop, more_behind):
    curve, wanted = falling(slope, power), DENSE - drop
    best = largest(curve, wanted)
    found = best_target(run(curve, wanted, more_behind=more_behind), wanted)
    if best >= 1.15:
        assert curve(found) >= wanted
        assert best / found < 1.2


@pytest.mark.parametrize(("slope", "power"), CURVES[2:])  # the others fall by no more than the noise
def test_noise_costs_a_part_of_the_best(slope, power):
    curve, wanted = falling(slope, power), DENSE - 0.01
    best = largest(curve, wanted)
    ratios = []
    for seed in range(40):
        found = run(curve, wanted, noise=0.002, seed=seed)
        target = best_target(found, wanted)
        assert target is None or found[Try(target, True)] >= wanted  # as measured
        ratios.append((target or 1.0) / best)
    ratios.sort()
    assert ratios[20] > 0.65 and ratios[36] < 1.5  # of 40


def test_a_model_that_loses_nothing_is_cut_as_far_as_it_goes():
    wanted = DENSE - 1e-9
    for ceiling in (CEILING, 5.3, 1.5):
        assert best_target(run(lambda s: DENSE, wanted, ceiling=ceiling), wanted) == ceiling


def test_an_impossible_wish_ends_at_the_smallest_cut():
    found = run(lambda s: DENSE - 0.1, DENSE)
    assert best_target(found, DENSE) is None
    whole = sorted(t.speed_up for t in found if t.whole)
    assert whole[0] < 1.5 and len(whole) >= 2  # a smaller cut than the first was fine-tuned to its end


def test_a_miss_makes_a_step_back():
    """The prediction from 2x is too good for 2.83x, which is therefore a bound."""
    found = {Try(2.0, False): 0.48, Try(2.0, True): 0.50, Try(4.0, False): 0.40, Try(2.83, False): 0.475}
    wanted = 0.49
    assert next_try(found, wanted) == Try(2.83, True)
    found[Try(2.83, True)] = 0.485
    tried = next_try(found, wanted)
    assert 2.0 < tried.speed_up < 2.83 and not tried.whole


def test_the_first_target_is_tried_whole_and_short():
    assert next_try({}, math.inf) == Try(START, True)
    assert next_try({Try(START, True): 0.3}, 0.4) == Try(START, False)
    assert next_try({}, math.inf, ceiling=1.4) == Try(1.4, True)


def test_gain_is_linear_between_targets_that_have_both():
    assert gain(8.0, {2.0: 0.3, 3.0: 0.2}, {2.0: 0.4}) == pytest.approx(0.1)
    assert gain(4.0, {2.0: 0.3, 8.0: 0.1}, {2.0: 0.4, 8.0: 0.4}) == pytest.approx(0.2)
