# SPDX-License-Identifier: AGPL-3.0-or-later
"""Random networks of stock blocks: pruned equals masked, in inference and in training."""

from random import Random

import pytest
import torch
from random_networks import Writer
from torch import nn

from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.surgery.oracle import enliven, flatten, masked, relative_difference
from ultralytics.nn.tasks import DetectionModel

FAST, ALL = 12, 200
METHODS_WITHOUT_LOSSES = [name for name, method in METHODS.items() if not method.needs_gradients]
SEEDS = [*range(FAST), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FAST, ALL))]


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


def run(model: nn.Module, image: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
    """Return all outputs, of layers that run in training only as well, in FP64: rounding to FP32 makes up to 1e-4."""
    model.double().train(training)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.Dropout)):
            m.eval()
    with torch.no_grad():
        output = model(image.double())
    return flatten(output[1] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network_is_pruned_exactly(seed):
    torch.manual_seed(seed)
    model = DetectionModel(Writer(seed).network(), verbose=False)
    enliven(model, model.predict)
    budget, method = settings(seed)
    try:
        pruned, record = prune_model(model, budget, prune_method=method)
    except OutOfReachError:  # the only refusal that a network of stock blocks may meet
        budget = Budget(1.02, round_to=1)
        pruned, record = prune_model(model, budget, prune_method="lamp")
    assert budget.speed_up * (1 - 1e-9) <= record.reached
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(seed))
    for training in (False, True):
        expected, actual = (run(m, image, training) for m in (masked(model, record), pruned))
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert value.std() > 1e-3 * value.abs().max(), name  # a constant output would prove nothing
            assert relative_difference(actual[name], value) < 1e-4, name
