"""The solver for costs with steps, against the best of all solutions."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ultralytics.engine.pruning.budget import CoupledGroups, OutOfReachError, Row
from ultralytics.engine.pruning.knapsack import solve_knapsack

COUNTS = [*range(8, 65, 8)]


class Stairs:
    """Milliseconds of three layers that take as long with 8 channels as with 16, a few of them slower than others."""

    widths = SimpleNamespace(share_a_layer=lambda: np.eye(3, dtype=bool))
    slope = np.array([1.0, 2.0, 5.0])

    def __call__(self, kept):
        return (np.ceil(np.asarray(kept) / 16) * self.slope).sum(-1)


def lost(coupled, counts):
    """Return the importance that goes with the ranks removed."""
    return sum(c.scores[: 64 - k].sum() for c, k in zip(coupled, counts))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("speed_up", [1.3, 2.0, 3.0])
def test_little_more_is_lost_than_must_be(seed, speed_up):
    random = np.random.default_rng(seed)
    scores = [np.sort(random.exponential(scale, 64)) for scale in (1.0, 3.0, 1.0)]
    coupled = [CoupledGroups([Row(i, torch.arange(64), 1)], s, COUNTS) for i, s in enumerate(scores)]
    cost = Stairs()
    limit = cost([64, 64, 64]) / speed_up
    counts = solve_knapsack(coupled, cost, limit)
    fitting = [trial for trial in product(COUNTS, repeat=3) if cost(trial) <= limit]
    least = min(lost(coupled, trial) for trial in fitting)
    assert cost(counts) <= limit
    assert all(count % 16 == 0 for count in counts)  # a step of the stairs is used up
    assert lost(coupled, counts) <= 1.25 * least


def test_limit_out_of_reach_is_an_error():
    coupled = [CoupledGroups([Row(i, torch.arange(64), 1)], np.ones(64), COUNTS) for i in range(3)]
    with pytest.raises(OutOfReachError, match="every layer is at its smallest"):
        solve_knapsack(coupled, Stairs(), 7.9)  # 8 with 8 channels everywhere


def test_coupled_groups_pay_for_all_their_rows():
    scores = np.ones(64)
    rows = [Row(0, torch.arange(64), 1), Row(1, torch.arange(64), 1)]
    coupled = [CoupledGroups(rows, scores, COUNTS), CoupledGroups([Row(2, torch.arange(64), 1)], scores, COUNTS)]
    cost = Stairs()
    # a rank of the first loses 2 units for 3/16 ms, one of the second 1 unit for 5/16 ms
    assert solve_knapsack(coupled, cost, cost([64, 64, 64]) - 5) == [64, 48]
