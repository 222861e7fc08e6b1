# SPDX-License-Identifier: AGPL-3.0-or-later
"""Random networks, of stock blocks and of others: pruned equals masked, in inference and in training."""

from dataclasses import replace
from random import Random

import pytest
import torch
from conftest import run_in_fp64
from random_networks import random_network
from torch import nn

from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.surgery.oracle import masked, relative_difference
from ultralytics.engine.pruning.surgery.wrong import WRONG

FAST, FAST_FOREIGN, SLOW, ALL = 12, 6, 50, 200
METHODS_WITHOUT_LOSSES = [name for name, method in METHODS.items() if not method.needs_gradients]


def seeds(fast: int) -> list:
    """Return all seeds, of which only the first ones are for every run of the tests."""
    slow = (pytest.param(seed, marks=pytest.mark.slow) for seed in range(fast, SLOW))
    return [*range(fast), *slow, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(SLOW, ALL))]


def settings(seed: int) -> tuple[Budget, str]:
    """Return a target and a method at random."""
    random = Random(seed)
    budget = Budget(
        random.uniform(1.1, 2.5),
        global_pruning=random.random() < 0.7,
        round_to=random.choice((1, 2, 4, 8)),
        max_sparsity=random.choice((1.0, 0.75)),
    )
    return budget, random.choice(METHODS_WITHOUT_LOSSES)


@pytest.mark.parametrize("seed", seeds(FAST))
def test_a_random_network_is_pruned_exactly(seed):
    model = random_network(seed)
    budget, method = settings(seed)
    try:
        pruned, record = prune_model(model, budget, prune_method=method)
    except OutOfReachError:  # the only refusal that a network of stock blocks may meet
        budget = Budget(1.02, round_to=1)
        pruned, record = prune_model(model, budget, prune_method="lamp")
    assert budget.speed_up * (1 - 1e-9) <= record.reached
    assert_exact(model, pruned, record, seed)


@pytest.mark.parametrize("seed", seeds(FAST_FOREIGN))
def test_a_random_network_with_foreign_blocks_is_pruned_exactly(seed):
    """What cannot be followed stays whole; every layer that can loses the same share."""
    model = random_network(seed, foreign=True)
    budget, _ = settings(seed)
    budget = replace(budget, global_pruning=False)
    try:
        pruned, record = prune_model(model, budget, prune_method="lamp")
    except OutOfReachError as error:
        pruned, record = prune_model(model, replace(budget, speed_up=0.1 + 0.9 * error.reachable), prune_method="lamp")
    assert_exact(model, pruned, record, seed)


def assert_exact(model: nn.Module, pruned: nn.Module, record: Record, seed: int) -> None:
    """Compare pruned with masked, in inference and in training, of a cut that was right at once."""
    assert WRONG not in record.left_dense.values()
    image = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(seed))
    for training in (False, True):
        expected, actual = (run_in_fp64(m, image, training) for m in (masked(model, record), pruned))
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert value.std() > 1e-3 * value.abs().max(), name  # a constant output would prove nothing
            assert relative_difference(actual[name], value) < 1e-4, name
