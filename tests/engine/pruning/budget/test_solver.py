# SPDX-License-Identifier: AGPL-3.0-or-later
"""The FLOPs formula is Ultralytics' own count, and the solver meets its target."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import YOLOV8, build_model

from ultralytics.engine.pruning.budget.flops import FlopsFormula, count_flops
from ultralytics.engine.pruning.budget.solver import CoupledGroups, Row, solve_budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules import to_prunable


@pytest.fixture(scope="module", params=["yolov8n", "yolov8s", "yolov8m"])
def model(request):
    return build_model(request.param)


@pytest.mark.parametrize("name", [n for n in YOLOV8 if n[6] in "nsm"])
def test_formula_is_ultralytics_count(name):
    dense = build_model(name)
    prunable = to_prunable(deepcopy(dense))
    side = 2 * int(dense.stride.max())
    example = torch.zeros(1, 3, side, side)
    groups = Graph(prunable, example).groups
    formula = FlopsFormula(prunable, groups, example, count_flops(dense))
    assert formula.rest == pytest.approx(0, abs=1)  # of some 1e9: the layers and products account for everything
    assert formula.dense == pytest.approx(count_flops(dense) * 1e9, rel=1e-9)


@pytest.mark.parametrize("speed_up", [1.2, 1.5, 2, 3, 4])
@pytest.mark.parametrize("global_pruning", [True, False])
def test_target_is_met(model, speed_up, global_pruning):
    for round_to, tolerance in ((1, 0.01), (8, 0.03)):
        pruned, record = prune_model(model, speed_up, global_pruning=global_pruning, round_to=round_to)
        reached = count_flops(model) / count_flops(pruned)
        assert record["reached"] == reached
        assert speed_up * (1 - 1e-9) <= reached <= speed_up * (1 + tolerance)


def test_counts_are_multiples(yolov8n):
    pruned, record = prune_model(yolov8n, 3, round_to=16)
    layers = dict(yolov8n.named_modules())
    changed = {k: v for k, v in record["channels"].items() if len(v["out"]) < layers[k].out_channels}
    assert len(changed) > 20
    assert all(len(v["out"]) % 16 == 0 for v in changed.values())


def test_max_sparsity_bounds_every_layer(yolov8n):
    _, record = prune_model(yolov8n, 1.5, round_to=1, max_sparsity=0.5)
    layers = dict(yolov8n.named_modules())
    assert all(len(v["out"]) >= 0.5 * layers[k].out_channels for k, v in record["channels"].items())


def test_local_pruning_takes_the_same_share_everywhere(yolov8n):
    _, record = prune_model(yolov8n, 2, global_pruning=False, round_to=1)
    layers = dict(yolov8n.named_modules())
    shares = [
        len(v["out"]) / layers[k].out_channels
        for k, v in record["channels"].items()
        if k not in record["left_dense"] and "dfl" not in k
    ]
    assert max(shares) - min(shares) < 2 / 16  # the narrowest layer has 16 channels


def test_target_out_of_reach_names_the_largest(yolov8n):
    with pytest.raises(ValueError, match=r"'speed_up=500' cannot be reached.* the speed-up is \d+\.\d+"):
        prune_model(yolov8n, 500)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"method": "lampp"}, "Valid methods are lamp"), ({"speed_up": 0.5}, "greater than 1.0")]
)
def test_bad_arguments(yolov8n, arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_model(yolov8n, **arguments)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed_up", [1.3, 2.0, 3.0])
def test_nothing_is_removed_that_saves_no_time(seed, speed_up):
    def milliseconds(kept):  # as long with 8 channels as with 16
        return (np.ceil(np.asarray(kept) / 16) * [1.0, 2.0, 5.0]).sum(-1)

    random = np.random.default_rng(seed)
    counts = [*range(8, 65, 8)]
    scores = [np.sort(random.exponential(scale, 64)) for scale in (1.0, 3.0, 1.0)]
    coupled = [CoupledGroups([Row(i, torch.arange(64), 1)], s, counts) for i, s in enumerate(scores)]
    limit = milliseconds([64, 64, 64]) / speed_up
    kept = solve_budget(coupled, milliseconds, limit)
    assert milliseconds(kept) <= limit
    for i, count in enumerate(kept):
        wider = [*kept[:i], count + 8, *kept[i + 1 :]]
        assert count % 16 == 0 and (count == 64 or milliseconds(wider) > limit)
