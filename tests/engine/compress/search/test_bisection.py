# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which target a search tries next, on made-up curves of accuracy against target."""

import math
import random
from statistics import mean

import pytest

from ultralytics.engine.compress.search.bisection import (
    CEILING,
    START,
    TRIES,
    best_target,
    next_target,
    next_targets,
)

DENSE = 0.5


def falling(slope, power, offset=0.0):
    """Return the metric by target, for a curve that falls by `slope` at 2x, from `offset` above the dense model."""
    return lambda s: DENSE + offset - slope * math.log2(s) ** power


def run(curve, wanted, noise=0.0, ceiling=CEILING, seed=0):
    """Search on a curve, with the noise that the seed of a fine-tuning is."""
    rng, found = random.Random(seed), {}
    while target := next_target(found, wanted, ceiling):
        assert target not in found and 1 < target <= ceiling
        found[target] = curve(target) + rng.gauss(0, noise)
    assert len(found) <= TRIES
    return found


def largest(curve, wanted):
    """Return the largest target that is accurate enough, by a fine sweep."""
    return max((s / 100 for s in range(101, round(100 * CEILING) + 1) if curve(s / 100) >= wanted), default=None)


CURVES = [(0.002, 1), (0.002, 2), (0.005, 1), (0.005, 1.5), (0.01, 2), (0.02, 1.5), (0.05, 1), (0.05, 2)]


@pytest.mark.parametrize("drop", [0.0, 0.003, 0.005, 0.01])
@pytest.mark.parametrize(("slope", "power"), CURVES)
@pytest.mark.parametrize("offset", [0.0, 0.005, 0.03])
def test_what_is_found_keeps_the_accuracy_and_is_near_the_best(slope, power, drop, offset):
    curve, wanted = falling(slope, power, offset), DENSE - drop
    best = largest(curve, wanted)
    found = best_target(run(curve, wanted), wanted)
    if best is None or best < 1.09:
        assert found is None
    else:
        assert curve(found) >= wanted
        assert best / found <= (2**0.5 + 0.01 if best < 8 else 2)  # after 2x, 4x and 8x one try is left


def test_noise_costs_a_part_of_the_best():
    """Half a point of noise, as fine-tunings of real data have it."""
    errors, ratios = [], []
    for offset in (0, 0.005, 0.015, 0.03):
        for slope, power in CURVES[2:]:  # the others fall by no more than the noise
            for drop in (0, 0.005, 0.01):
                curve, wanted = falling(slope, power, offset), DENSE - drop
                best = largest(curve, wanted)
                if best is None or best < 1.15:
                    continue
                for seed in range(20):
                    found = run(curve, wanted, noise=0.005, seed=seed)
                    target = best_target(found, wanted)
                    assert target is None or found[target] >= wanted  # as measured
                    ratios.append((target or 1.0) / best)
                    errors.append(abs(math.log(ratios[-1])))
    ratios.sort()
    assert mean(errors) < 0.2
    assert ratios[len(ratios) // 10] > 0.65 and ratios[len(ratios) // 2] > 0.85 and ratios[9 * len(ratios) // 10] < 1.3


def test_a_model_that_loses_nothing_is_cut_as_far_as_it_goes():
    wanted = DENSE - 1e-9
    for ceiling in (CEILING, 5.3, 1.5):
        assert best_target(run(lambda s: DENSE, wanted, ceiling=ceiling), wanted) == ceiling


def test_an_impossible_wish_ends_at_a_small_cut():
    found = run(lambda s: DENSE - 0.1, DENSE)
    assert best_target(found, DENSE) is None
    assert [*found] == [2.0, 1.41, 1.19, 1.09]


def test_targets_are_doubled_until_one_misses_and_then_bisected():
    assert next_target({}, math.inf) == START
    assert next_target({}, math.inf, ceiling=1.4) == 1.4
    found = {2.0: 0.50}
    assert next_target(found, 0.49) == 4.0
    assert next_target(found, 0.49, ceiling=3.0) == 3.0
    assert next_target(found, 0.49, ceiling=2.1) is None  # which is not told apart from 2x
    found[4.0] = 0.48
    assert next_target(found, 0.49) == 2.83
    found[2.83] = 0.49
    assert next_target(found, 0.49) == 3.36
    found[3.36] = 0.48
    assert next_target(found, 0.49) is None
    assert next_target(found, 0.49, uncounted=[2.0]) == 3.08
    assert next_target({**found, 3.08: 0.49}, 0.49, uncounted=[*found]) is None  # 3.36 is not told apart


def test_what_may_come_next_is_known_whatever_a_try_comes_to():
    assert next_targets({}, math.inf, CEILING, (), 8) == [2.0]  # no metric is wanted yet
    assert next_targets({2.0: 0.5}, 0.49, CEILING, (), 1) == [4.0]
    assert next_targets({2.0: 0.5}, 0.49, CEILING, (), 8) == [4.0, 2.83, 8.0, 2.38, 3.36, 5.66, 16.0]
