# SPDX-License-Identifier: AGPL-3.0-or-later
"""The FLOPs formula is Ultralytics' own count, and the solver meets its target."""

import pickle
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import YOLOV8, also_slow, build_model

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.solver import CoupledGroups, OutOfReachError, Row, solve_budget
from ultralytics.engine.pruning.budget.steps import without_steps
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules.prunable import to_prunable


@pytest.fixture(scope="module", params=also_slow(["yolov8n", "yolov8s"], ["yolov8m"]))
def model(request):
    return build_model(request.param)


def test_an_error_comes_out_of_a_worker_as_it_was():
    error = OutOfReachError("'speed_up=9' cannot be reached.", 3.5)
    error.is_refusal = True
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.reachable, again.is_refusal) == (OutOfReachError, str(error), 3.5, True)


@pytest.mark.parametrize("name", also_slow(YOLOV8, ["yolov8m"]))
def test_formula_is_ultralytics_count(name):
    dense = build_model(name)
    formula = FlopsFormula(Graph(to_prunable(deepcopy(dense))))
    assert formula.rest == pytest.approx(0, abs=1)  # of some 1e9: the layers and products account for everything
    assert formula.dense == pytest.approx(count_flops(dense) * 1e9, rel=1e-9)


@pytest.mark.parametrize("speed_up", [1.2, 1.5, 2, 3, 4])
@pytest.mark.parametrize("global_pruning", [True, False])
def test_target_is_met(model, speed_up, global_pruning):
    for round_to, tolerance in ((1, 0.01), (8, 0.03)):
        pruned, record = prune_model(
            model, Budget(speed_up, global_pruning=global_pruning, round_to=round_to), prune_method="lamp"
        )
        reached = count_flops(model) / count_flops(pruned)
        assert record.reached == reached
        assert speed_up * (1 - 1e-9) <= reached <= speed_up * (1 + tolerance)


def test_counts_are_multiples(yolov8n):
    pruned, record = prune_model(yolov8n, Budget(3, round_to=16), prune_method="lamp")
    layers = dict(yolov8n.named_modules())
    changed = {k: v for k, v in record.channels.items() if len(v["out"]) < layers[k].out_channels}
    assert len(changed) > 20
    assert all(len(v["out"]) % 16 == 0 for v in changed.values())


def test_max_sparsity_bounds_every_layer(yolov8n):
    _, record = prune_model(yolov8n, Budget(1.5, round_to=1, max_sparsity=0.5), prune_method="lamp")
    layers = dict(yolov8n.named_modules())
    assert all(len(v["out"]) >= 0.5 * layers[k].out_channels for k, v in record.channels.items())


def test_local_pruning_takes_the_same_share_everywhere(yolov8n):
    _, record = prune_model(yolov8n, Budget(2, global_pruning=False, round_to=1), prune_method="lamp")
    layers = dict(yolov8n.named_modules())
    shares = [
        len(v["out"]) / layers[k].out_channels
        for k, v in record.channels.items()
        if k not in record.left_dense and "dfl" not in k
    ]
    assert max(shares) - min(shares) < 2 / 16  # the narrowest layer has 16 channels


def test_target_out_of_reach_names_the_largest(yolov8n):
    with pytest.raises(ValueError, match=r"'speed_up=500' cannot be reached.* the speed-up is \d+\.\d+"):
        prune_model(yolov8n, Budget(500), prune_method="lamp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speed_up": 0.5}, "'speed_up=0.5' is an invalid value. 'speed_up' must be greater than 1.0"),
        ({"max_sparsity": 0.0}, "'max_sparsity=0.0' is an invalid value"),
        ({"round_to": 0}, "'round_to=0' is an invalid value"),
        ({"budget": "flop"}, "'budget=flop' is invalid. Valid 'budget' values are flops, pytorch, onnx"),
    ],
)
def test_bad_budget(arguments, message):
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)


def test_budget_of_a_run_is_that_of_its_arguments():
    args = SimpleNamespace(
        speed_up=3.0, budget="onnx", global_pruning=False, round_to=4, max_sparsity=0.5, imgsz=320, reg=1.0
    )
    expected = Budget(3.0, "onnx", global_pruning=False, round_to=4, max_sparsity=0.5, imgsz=320, limits={"a": 0.5})
    assert Budget.from_args(args, {"a": 0.5}) == expected


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


def test_widths_that_a_device_does_not_like_are_never_kept():
    class Times:
        """24 units take longer than 32, 40 as long as 48; the second group likes every width."""

        has_steps, dense = True, 9.0

        def __call__(self, kept):
            curve = np.array([0, 1.0, 2.0, 4.5, 3.0, 5.0, 5.0, 5.5, 6.0])
            first, second = np.moveaxis(np.asarray(kept), -1, 0)
            return curve[first // 8] + second / 64

    coupled = [CoupledGroups([Row(i, torch.arange(64), 1)], np.arange(64.0), [*range(8, 65, 8)]) for i in range(2)]
    first, second = without_steps(coupled, Times())
    assert first.counts == [8, 16, 32, 48, 56, 64]
    assert second.counts == [*range(8, 65, 8)]
    assert solve_budget([first, second], Times(), 5.2)[0] == 32


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half", None])
def test_a_limit_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=r"'limits=\{'model.3.conv': .*\}' is invalid. Each group may lose a share"):
        Budget(2.0, limits={"model.2.cv1.conv": 0.5, "model.3.conv": share})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"speed_up": [2.0, 3.0]}, r"'speed_up=\[2.0, 3.0\]' is of invalid type. A Budget has one speed_up"),
        ({"budget": None}, "'budget=None' is of invalid type NoneType"),
        ({"budget": 3}, "'budget=3' is of invalid type int"),
        ({"limits": None}, "'limits=None' is of invalid type NoneType. 'limits' must map names of groups to shares"),
    ],
)
def test_values_of_other_types_are_refused(keys, message):
    with pytest.raises(TypeError, match=message):
        Budget(**keys)


def test_a_limit_of_no_group_is_refused_with_similar_names(yolov8n):
    with pytest.raises(ValueError, match=r"'limits' has 'model.3.cnv', which names no group .* are model.3.conv"):
        prune_model(yolov8n, Budget(2.0, limits={"model.3.cnv": 0.5}), prune_method="lamp")
    head = "model.22.cv2.0.2"  # a layer that stays whole anyway
    _, record = prune_model(yolov8n, Budget(2.0, limits={head: 0.5, "model.3.conv": 0.25}), prune_method="lamp")
    assert head in record.left_dense
