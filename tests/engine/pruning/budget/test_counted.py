# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budgets in parameters and in bytes of weights are met to 1 %, as a ratio and as an absolute figure."""

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import also_slow, build_model

from ultralytics.cfg.compress.compat.export import traced_export
from ultralytics.cfg.compress.keys import get_prune_cfg
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.budget.costs import COUNTED
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.budget.weights import (
    PRECISIONS,
    as_exported,
    count_bytes,
    parameters_formula,
    size_formula,
)
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.utils.torch_utils import get_num_params


def megabytes(model, precision):
    """Return the megabytes of a model's weights as exported."""
    return count_bytes(as_exported(deepcopy(model)), precision) / 1e6


@pytest.fixture(scope="module")
def dense():
    return build_model("yolov8n")


@pytest.mark.parametrize("share", [0.8, 0.6, 0.45, 0.3, 0.2])
def test_parameters_are_met(dense, share):
    target = share * get_num_params(dense) / 1e6
    pruned, record = prune_model(dense, Budget(budget="params", target=target), prune_method="lamp")
    assert 0.99 * target <= get_num_params(pruned) / 1e6 <= target
    assert record.cost == pytest.approx(
        {"dense": get_num_params(dense) / 1e6, "pruned": get_num_params(pruned) / 1e6, "target": target}
    )
    assert Record.from_dict(record.to_dict()) == record


@pytest.mark.parametrize("share", [0.8, 0.6, 0.45, 0.3, 0.2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_are_met(dense, share, precision):
    target = share * megabytes(dense, precision)
    budget = Budget(budget="size", target=target, precision=precision)
    pruned, _ = prune_model(dense, budget, prune_method="lamp")
    assert 0.99 * target <= megabytes(pruned, precision) <= target * 1.0001


@pytest.mark.parametrize("budget", ["params", "size", "flops"])
def test_a_ratio_is_met(dense, budget):
    _, record = prune_model(dense, Budget(2.5, budget=budget), prune_method="lamp")
    assert 2.5 <= record.reached <= 2.53
    assert record.cost["dense"] / record.cost["pruned"] == pytest.approx(record.reached)


@pytest.mark.parametrize(
    "name", also_slow(["yolov8n-seg", "yolo26n", "yolov9t", "yolov6n"], ["yolo11n-obb", "yolov10n"])
)
def test_formulas_are_exact(name):
    """Re-parameterised blocks, heads that an export leaves out and transposed convolutions included."""
    model = build_model(name)
    graph = Graph(prunable_copy(model))
    assert parameters_formula(graph).dense == get_num_params(model)
    for precision in PRECISIONS:
        assert size_formula(graph, precision).dense == pytest.approx(1e6 * megabytes(model, precision))
    for kind, measure in (("params", get_num_params), ("size", lambda m: 1e6 * megabytes(m, "fp32"))):
        pruned, record = prune_model(model, Budget(2.0, budget=kind), prune_method="lamp")
        assert measure(model) / measure(pruned) == pytest.approx(record.reached)
        assert 2.0 <= record.reached <= 2.02


@pytest.mark.skipif(not find_spec("onnx"), reason="needs ONNX")
@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_bytes_are_those_of_an_exported_file(name, tmp_path):
    import onnx

    model = build_model(name)
    model.task, model.pt_path = "detect", str(tmp_path / "a.pt")
    overrides = {"format": "onnx", "imgsz": 32, "simplify": False, "device": "cpu", "verbose": False}
    with traced_export():
        file = Exporter(overrides=overrides)(model=deepcopy(model))
    stored = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer if "weight" in tensor.name}
    stored |= {tensor.name: tensor for tensor in onnx.load(file).graph.initializer if "bias" in tensor.name}
    counted = 4 * sum(int(np.prod(tensor.dims)) for tensor in stored.values())
    assert megabytes(model, "fp32") == pytest.approx(counted / 1e6, rel=1e-3)
    assert Path(file).stat().st_size / 1e6 == pytest.approx(megabytes(model, "fp32"), rel=0.05)


def test_a_target_that_the_dense_model_meets_is_refused(dense):
    with pytest.raises(ValueError, match=r"'target=50' is an invalid value: the dense model has .* MB. 'target' must"):
        prune_model(dense, Budget(budget="size", target=50), prune_method="lamp")


def test_a_target_out_of_reach_is_named_as_it_was_given(dense):
    with pytest.raises(ValueError, match=r"'target=0.01' cannot be reached.* Raise target, or lower round_to"):
        prune_model(dense, Budget(budget="params", target=0.01), prune_method="lamp")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target": 5.0, "speed_up": 3.0}, "'target=5.0' is invalid with 'speed_up=3.0'"),
        ({"target": 5.0, "speed_up": [1.5, 2.0]}, "'target=5.0' is invalid with 'speed_up="),
        ({"target": 0}, "'target=0' is an invalid value. 'target' must be greater than 0"),
        ({"precision": "fp8"}, "'precision=fp8' is invalid. Valid 'precision' values are fp32, fp16, int8"),
    ],
)
def test_bad_targets(keys, message):
    with pytest.raises(ValueError, match=message):
        get_prune_cfg(keys)
    if "speed_up" not in keys or isinstance(keys["speed_up"], float):
        with pytest.raises(ValueError, match=message):
            Budget(**keys)


def test_the_keys_of_a_run_reach_the_budget():
    args = SimpleNamespace(**vars(get_prune_cfg({"budget": "size", "target": 1.0, "precision": "int8"})), imgsz=64)
    assert Budget.from_args(args) == Budget(budget="size", target=1.0, precision="int8", imgsz=64)


@pytest.mark.parametrize("budget", COUNTED)
def test_a_counted_target_out_of_reach_is_refused_before_there_is_a_folder(settings, tmp_path, budget):
    with pytest.raises(ValueError, match=r"'target=1e-05' cannot be reached"):
        DetectionCompressor(
            overrides={**{k: v for k, v in settings.items() if k != "speed_up"}, "budget": budget, "target": 1e-5}
        )
    assert not list(tmp_path.iterdir())
