"""A budget in milliseconds: the table, the formula, the cuts that are corrected, and what is checked beforehand."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FAST, build_model

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.keys import CHOICES
from ultralytics.engine.pruning import prune as prune_module
from ultralytics.engine.pruning.budget import costs
from ultralytics.engine.pruning.budget.costs import COSTS, FlopsCost
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.latency import table as latency_table
from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.formula import LatencyFormula
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.latency.shapes import conv_shapes
from ultralytics.engine.pruning.latency.table import LatencyTable, read_times
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.report.table import format_report
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock

CPU = torch.device("cpu")
WITH_ONNX = [*(["onnx"] if find_spec("onnx") and find_spec("onnxruntime") else []), "pytorch"]


def set_runtime(monkeypatch, name, **fields):
    """Have a runtime measure otherwise."""
    monkeypatch.setitem(RUNTIMES, name, RUNTIMES[name]._replace(**fields))


def macs(shape):
    """Return the millions of multiply-accumulates of a convolution."""
    area = shape.height * shape.width / (1 if shape.transposed else math.prod(shape.stride))
    return 1e-6 * math.prod(shape.kernel) * shape.outputs * (1 if shape.depthwise else shape.inputs) * area


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Let a convolution take as many milliseconds as it has millions of multiply-accumulates, in a table of its own."""
    set_runtime(monkeypatch, "pytorch", time_convolutions=lambda shapes, device: [macs(shape) for shape in shapes])
    return LatencyTable("pytorch", CPU, tmp_path)


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo26n-seg"])
def test_formula_adds_up_the_convolutions_of_the_pruned_network(counted, name):
    model = build_model(name)
    shapes = conv_shapes(to_stock(prunable_copy(model)), 64)
    counted.measure(shape for calls in shapes.values() for shape in calls)
    pruned = prunable_copy(model)
    graph = Graph(pruned)
    formula = LatencyFormula(graph, shapes, counted, rest=5.0)
    assert formula.dense == pytest.approx(5.0 + sum(macs(s) for calls in shapes.values() for s in calls))

    units = [torch.arange(max(group.size // 16 * 8, min(group.size, 8))) for group in graph.groups]
    predicted = formula([[len(u) for u in units], [group.size for group in graph.groups]])
    cut(pruned, channels_to_keep(pruned, graph.groups, units))
    left = conv_shapes(pruned, 64)
    assert predicted[1] == formula.dense
    assert predicted[0] == pytest.approx(5.0 + sum(macs(s) for calls in left.values() for s in calls), rel=1e-6)


@pytest.mark.parametrize("runtime", WITH_ONNX)
def test_table_is_measured_once_and_kept(runtime, tmp_path, monkeypatch):
    shapes = conv_shapes(build_model("yolov8n"), 32)
    chosen = [shapes["model.0.conv"][0], shapes["model.2.cv1.conv"][0], shapes["model.22.cv2.0.2"][0]]
    table = LatencyTable(runtime, CPU, tmp_path)
    table.measure(chosen)
    assert len(table.times) >= sum(len(latency_table._points(s.outputs)) for s in chosen)
    assert all(ms > 0 for ms in table.times.values())
    set_runtime(monkeypatch, runtime, time_convolutions=None)  # nothing is left to measure
    again = LatencyTable(runtime, CPU, tmp_path)
    again.measure(chosen)
    assert again.times == table.times and again.file.parent == tmp_path
    curve = again.curve(chosen[1], "out")
    assert len(curve) == chosen[1].outputs + 1
    assert curve[8] == table.times[chosen[1].resized(chosen[1].inputs, 8).key] == curve[3]
    assert curve[12] == pytest.approx((curve[8] + curve[16]) / 2)


@pytest.mark.skipif("onnx" not in WITH_ONNX, reason="needs ONNX Runtime")
def test_every_kind_of_convolution_is_timed_in_onnx_runtime():
    models = [build_model(name) for name in ("yolo26n-seg", "yolov6n", "yolo11n")]
    shapes = {shape for model in models for calls in conv_shapes(model, 32).values() for shape in calls}
    assert {s.transposed for s in shapes} == {s.depthwise for s in shapes} == {True, False}
    assert {s.activation for s in shapes} == {"", "SiLU", "ReLU"}
    kinds = {(s.transposed, s.depthwise, s.activation): s for s in shapes}
    for runtime in ("onnx", "pytorch"):
        milliseconds = RUNTIMES[runtime].time_convolutions(list(kinds.values()), CPU)
        assert len(milliseconds) == len(kinds) and all(ms > 0 for ms in milliseconds)


@pytest.mark.parametrize("global_pruning", [True, False])
def test_pruned_by_milliseconds(counted, monkeypatch, global_pruning):
    monkeypatch.setattr(costs, "LatencyTable", lambda runtime, device: counted)
    monkeypatch.setattr(costs.LatencyCost, "tolerance", None)  # the prediction alone: this machine's times are its own
    model = build_model("yolov8n")
    pruned, record = prune_model(
        model, Budget(2.0, budget="pytorch", global_pruning=global_pruning, imgsz=64), prune_method="lamp"
    )
    before, after = (sum(macs(s) for calls in conv_shapes(m, 64).values() for s in calls) for m in (model, pruned))
    rest = COSTS["pytorch"](model, 64).rest
    assert 2.0 <= (before + rest) / (after + rest) <= 2.1
    assert record.budget == "pytorch" and record.target == 2.0 and record.reached > 0


def test_time_outside_the_convolutions_is_warned_of(counted, monkeypatch, log):
    monkeypatch.setattr(costs, "LatencyTable", lambda runtime, device: counted)
    model = build_model("yolov8n")
    convolutions = sum(macs(s) for calls in conv_shapes(model, 64).values() for s in calls)
    for share, warned in ((0.6, False), (0.4, True)):
        whole = costs.Timing(*[convolutions / share] * 3)
        set_runtime(monkeypatch, "pytorch", time_models=lambda *args, whole=whole: {"dense": whole})
        assert COSTS["pytorch"](model, 64).rest == pytest.approx(whole.low - convolutions, rel=1e-6)
        assert ("are spent outside the convolutions" in log.text) == warned


def test_a_machine_that_was_disturbed_is_noticed_by_its_dense_model(counted, monkeypatch):
    """Whatever else it does adds as much to every model, which spoils ratios and predictions."""
    monkeypatch.setattr(costs, "LatencyTable", lambda runtime, device: counted)
    added = []

    def measure(models, imgsz, device):
        extra = 1.0 + added.pop(0)
        layers = {name: [s for calls in conv_shapes(m, 64).values() for s in calls] for name, m in models.items()}
        return {name: costs.Timing(*[extra + sum(map(macs, shapes))] * 3) for name, shapes in layers.items()}

    set_runtime(monkeypatch, "pytorch", time_models=measure)
    model = build_model("yolov8n")
    added[:] = [0.0, 15.0, 0.0]  # while the first cut was timed
    pruned, record = prune_model(model, Budget(2.0, budget="pytorch", imgsz=64), prune_method="lamp")
    assert record.reached == pytest.approx(2.0, rel=0.03) and not added
    added[:] = [15.0, 0.0]  # while the dense model was
    _, again = prune_model(model, Budget(2.0, budget="pytorch", imgsz=64), prune_method="lamp")
    assert again.reached == record.reached and not added
    added[:] = [50.0, 0.0]  # by more than the convolutions take
    _, again = prune_model(model, Budget(2.0, budget="pytorch", imgsz=64), prune_method="lamp")
    assert again.reached == record.reached and not added
    whole = again.cost["dense"]
    added[:] = [15.0, 0.0, 0.0]  # a target in milliseconds asked for too little while the dense model seemed slower
    _, absolute = prune_model(model, Budget(budget="pytorch", target=whole / 2, imgsz=64), prune_method="lamp")
    assert absolute.cost["pruned"] == pytest.approx(whole / 2, rel=0.03) and not added
    with pytest.raises(ValueError, match="cannot be reached"):
        added[:] = [50.0, 50.0, 50.0]  # out of reach, as far as can be seen
        prune_model(model, Budget(2.0, budget="pytorch", imgsz=64), prune_method="lamp")
    assert not added


@pytest.mark.parametrize(("scale", "constant", "cuts"), [(1.0, 0.0, 1), (1.6, 0.0, 1), (0.8, 0.0, 1), (1.2, 20.0, 2)])
def test_time_that_the_table_lacks_is_taken_to_shrink_and_then_measured(counted, monkeypatch, scale, constant, cuts):
    """Time that shrinks with the convolutions needs no correction, time that does not needs one."""
    monkeypatch.setattr(costs, "LatencyTable", lambda runtime, device: counted)
    timed = []

    def measure(models, imgsz, device):
        timed.append(models)
        layers = {name: [s for calls in conv_shapes(m, 64).values() for s in calls] for name, m in models.items()}
        return {name: costs.Timing(*[constant + scale * sum(map(macs, s))] * 3) for name, s in layers.items()}

    set_runtime(monkeypatch, "pytorch", time_models=measure)
    _, record = prune_model(build_model("yolov8n"), Budget(1.8, budget="pytorch", imgsz=64), prune_method="lamp")
    assert 1.8 * 0.999 <= record.reached <= 1.8 * 1.03
    assert len(timed) == 1 + cuts  # the dense model alone, then with every cut


def test_a_target_missed_for_noise_says_noise(counted, monkeypatch, log):
    """A dense model whose times scatter makes no target unreachable, and overlapping times are no result."""
    monkeypatch.setattr(costs, "LatencyTable", lambda runtime, device: counted)
    scatter, extra = 1.0, 0.0

    def measure(models, imgsz, device):
        times = {
            name: extra + sum(macs(s) for c in conv_shapes(m, 64).values() for s in c) for name, m in models.items()
        }
        return {name: costs.Timing(ms, ms, ms * scatter) for name, ms in times.items()}

    set_runtime(monkeypatch, "pytorch", time_models=measure)
    model, budget = build_model("yolov8n"), Budget(2.0, budget="pytorch", imgsz=64)
    extra = 50.0
    with pytest.raises(ValueError, match=r"'speed_up=2.0' cannot be reached.* are spent outside the convolutions"):
        prune_model(model, budget, prune_method="lamp")
    scatter = 1.5
    with pytest.raises(
        ValueError, match=r"for noise: the dense model's latency varied by a factor of 1\.50"
    ) as refused:
        prune_model(model, budget, prune_method="lamp")
    assert "cannot be reached" not in str(refused.value)
    extra, scatter = 0.0, 5.0
    monkeypatch.setattr(costs.LatencyCost, "tolerance", 1e-9)
    prune_model(model, budget, prune_method="lamp")
    assert "was not met" in log.text and "This is noise: the latencies of the dense and the pruned model" in log.text


def test_a_prediction_that_is_wrong_is_corrected(monkeypatch):
    class Slower(FlopsCost):
        """FLOPs, with as much again as a third of the dense model's that no pruning takes away and no formula knows."""

        unit, tolerance = "something else", 0.03

        def speed_up(self, pruned):
            ratio = super().speed_up(pruned)
            return (1 + 1 / 3) / (1 / ratio + 1 / 3)

    monkeypatch.setitem(COSTS, "slower", Slower)
    model = build_model("yolov8n")
    scored = []
    score = prune_module.score_groups
    monkeypatch.setattr(prune_module, "score_groups", lambda *args, **keys: scored.append(1) or score(*args, **keys))
    _, record = prune_model(model, Budget(1.5, budget="slower"), prune_method="lamp")
    assert record.reached == pytest.approx(1.5, rel=0.03)
    assert record.gflops["dense"] / record.gflops["pruned"] > 1.7
    assert scored == [1]  # the dense model is scored once

    monkeypatch.setattr(Slower, "speed_up", lambda self, pruned: 1.1)
    warnings = []
    monkeypatch.setattr(prune_module.LOGGER, "warning", warnings.append)
    _, record = prune_model(model, Budget(1.5, budget="slower"), prune_method="lamp")
    assert record.reached == 1.1 and "'speed_up=1.5' was not met" in warnings[0]


def test_a_correction_that_is_out_of_reach_ends_with_the_nearest_cut(monkeypatch):
    monkeypatch.setattr(FlopsCost, "tolerance", 0.03)
    monkeypatch.setattr(FlopsCost, "speed_up", lambda self, pruned: 1.2)
    messages = {"info": [], "warning": []}
    for level, found in messages.items():
        monkeypatch.setattr(prune_module.LOGGER, level, found.append)
    _, record = prune_model(build_model("yolov8n"), Budget(1.5, max_sparsity=0.3), prune_method="lamp")
    assert record.reached == 1.2 and record.gflops["dense"] / record.gflops["pruned"] >= 1.5
    assert "'speed_up=1.5' was not met within 3%" in messages["warning"][0]
    monkeypatch.setattr(FlopsCost, "speed_up", lambda self, pruned: 1.45)
    messages["info"].clear()
    prune_model(build_model("yolov8n"), Budget(1.5), prune_method="lamp")
    assert sum("cutting anew" in m for m in messages["info"]) == prune_module.CORRECTIONS
    with pytest.raises(ValueError, match="'speed_up=9.0' cannot be reached"):
        prune_model(build_model("yolov8n"), Budget(9.0, max_sparsity=0.3), prune_method="lamp")


def test_a_run_with_a_budget_in_time(tmp_path, tiny_data, best_pt, monkeypatch):
    seconds = lambda shapes, device: [1e3 * macs(shape) for shape in shapes]  # noqa: E731  more than anything else
    set_runtime(monkeypatch, "pytorch", time_convolutions=seconds)
    monkeypatch.setattr(latency_table, "_where", lambda runtime, device: str(tmp_path / "table"))
    monkeypatch.setattr(costs.LatencyCost, "tolerance", None)
    overrides = {**FAST, "model": best_pt, "data": tiny_data, "project": str(tmp_path), "name": "t"}
    run = DetectionCompressor(overrides={**overrides, "budget": "pytorch", "speed_up": 1.5})
    pruned, _ = load_checkpoint(run.compress())
    assert pruned.pruning["budget"] == "pytorch" and np.isfinite(pruned.pruning["reached"])
    dense, _ = load_checkpoint(best_pt)
    before, after = (sum(macs(s) for calls in conv_shapes(m, 32).values() for s in calls) for m in (dense, pruned))
    assert 1.5 <= before / after <= 1.6
    report = json.loads((run.save_dir / "report.json").read_text())
    reached = pruned.pruning["reached"]
    assert report["target"] == {"budget": "pytorch", "precision": "fp32", "value": 1.5, "reached": reached}
    assert "Target of budget=pytorch: 1.5x in latency in PyTorch" in format_report(report)


def test_what_is_missing_is_said_beforehand(tmp_path, monkeypatch):
    assert {*CHOICES["budget"]} == {*COSTS}
    set_runtime(monkeypatch, "onnx", packages=("nobodys_package",))
    with pytest.raises(ModuleNotFoundError, match="'budget=onnx' needs nobodys_package: pip install nobodys_package"):
        DetectionCompressor(
            overrides={"model": "yolov8n.yaml", "data": "a.yaml", "budget": "onnx", "project": str(tmp_path)}
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="'budget=flop' is invalid. Valid 'budget' values are flops, pytorch, onnx"):
        prune_model(build_model("yolov8n"), Budget(2.0, budget="flop"), prune_method="lamp")


def test_what_quantises_is_asked_for_before_the_work(monkeypatch):
    monkeypatch.setitem(KITS, "pytorch", KITS["onnx"]._replace(exporters=(), quantisers=("nobodys_package",)))
    costs.check_installed("pytorch", precision="fp32")
    for runner in ("", "ssh pi@board"):
        with pytest.raises(ModuleNotFoundError, match="'budget=pytorch' needs nobodys_package: pip install"):
            costs.check_installed("pytorch", runner, "int8")


@pytest.mark.skipif("onnx" not in WITH_ONNX, reason="needs ONNX Runtime")
@pytest.mark.slow
def test_a_budget_in_int8_is_measured_in_int8(monkeypatch):
    monkeypatch.setattr(costs.LatencyCost, "tolerance", None)  # how fast is for benchmarks
    said = []
    monkeypatch.setattr(latency_table.LOGGER, "info", said.append)
    budget = Budget(1.2, "onnx", imgsz=160, precision="int8")
    _, record = prune_model(build_model("yolov8n"), budget, prune_method="l1")
    assert (record.budget, record.precision) == ("onnx", "int8")
    assert record.parameters["pruned"] < record.parameters["dense"]
    file = next(line.split()[-1] for line in said if line.startswith("Latency table saved to"))
    assert "-int8-" in file and read_times(Path(file))
