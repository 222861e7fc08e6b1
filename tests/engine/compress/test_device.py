# SPDX-License-Identifier: AGPL-3.0-or-later
"""From a run to a device and back: `yolo latency`, budget=answer.json, a runner, and a cut without gain."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import FAST, no_argument

from ultralytics.cfg import entrypoint
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.device import make_bundle
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.latency.answer import read_answer
from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.formula import convolutions_time
from ultralytics.engine.pruning.latency.shapes import conv_shapes
from ultralytics.engine.pruning.report.table import no_gain
from ultralytics.models.yolo.detect.compress import DetectionCompressor

needs_onnx = pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime")


@needs_onnx
def test_the_round_trip_by_hand(shallow_pt, tiny_data, tmp_path):
    entrypoint(f"yolo latency model={shallow_pt} imgsz=32 runtime=onnx project={tmp_path} name=bundle threads=1")
    folder = tmp_path / "bundle"
    assert {"measure.py", "device.py", "bundle.json", "README.txt", "dense.onnx"} <= {f.name for f in folder.iterdir()}
    shutil.move(folder, tmp_path / "device")  # as if it were one
    subprocess.run([sys.executable, str(tmp_path / "device" / "measure.py"), "--anyway"], check=True, timeout=300)
    answer = tmp_path / "device" / "answer.json"
    keys = {
        **FAST,
        "model": shallow_pt,
        "data": tiny_data,
        "project": str(tmp_path),
        "name": "t",
        "prune_method": "lamp",
    }
    run = DetectionCompressor(overrides={**keys, "budget": str(answer), "speed_up": 1.3, "plots": False})
    pruned = load_checkpoint(run.compress())[0].float()
    record = pruned.pruning
    assert record["budget"] == str(answer) and record["reached"] >= 1.3 * 0.999
    report = json.loads((run.save_dir / "report.json").read_text())
    assert report["target"]["budget"] == str(answer)
    following = run.save_dir / "device"
    done = subprocess.run([sys.executable, str(following / "measure.py"), "--anyway"], check=False, timeout=300)
    assert done.returncode == 0
    again = read_answer(following / "answer.json")
    assert again.networks.keys() == again.predicted.keys() == {"dense", "pruned"}
    cost = AnswerCost(load_checkpoint(shallow_pt)[0].float(), 32, str(answer))
    assert again.times == cost.table.times  # with what weights cost; nothing anew
    assert cost.speed_up(pruned) == pytest.approx(record["reached"], rel=1e-3)
    layers = [(name, conv_shapes(model, 32)) for name, model in (("dense", cost.dense), ("pruned", pruned))]
    found = {name: convolutions_time(cost.shapes, shapes, cost.table) for name, shapes in layers}
    assert again.predicted == pytest.approx(found, rel=1e-6)


@pytest.mark.slow
@needs_onnx
def test_a_runner_does_both_trips(shallow_pt, tiny_data, tmp_path, runner, log):
    keys = {
        **FAST,
        "model": shallow_pt,
        "data": tiny_data,
        "project": str(tmp_path),
        "name": "t",
        "prune_method": "lamp",
    }
    own = {"budget": "onnx", "runner": runner, "speed_up": 1.2, "plots": False}
    run = DetectionCompressor(overrides={**keys, **own})
    record = load_checkpoint(run.compress())[0].pruning
    assert record["budget"] == f"onnx at {runner}" and record["cost"]["dense"] > 0
    assert "convolutions, each at all its widths" in log.text
    assert list((tmp_path / "home" / ".cache" / "ultralytics-compress").iterdir())


@needs_onnx
def test_a_device_out_of_reach_is_said_before_there_is_a_folder(shallow_pt, tiny_data, tmp_path):
    keys = {**FAST, "model": shallow_pt, "data": tiny_data, "project": str(tmp_path / "runs"), "budget": "onnx"}
    with pytest.raises(OSError, match=r"'runner=false' failed with exit status 1"):
        DetectionCompressor(overrides={**keys, "runner": "false"})
    with pytest.raises(FileNotFoundError, match=r"'budget=.*none.json' does not exist"):
        DetectionCompressor(overrides={**keys, "budget": str(tmp_path / "none.json")})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("runtime=onnx", "'model' argument is missing"),
        ("model=best.pt", "'runtime' argument is missing"),
        ("model=none.pt runtime=onnx", "'model=none.pt' does not exist"),
        ("model={model} runtime=tflite", "'runtime=tflite' is invalid. Valid 'runtime' values are onnx, openvino"),
        ("model={model} runtime=onnx imgsz=0", "'imgsz=0' is an invalid value"),
        ("model={model} runtime=onnx threads=two", "'threads=two' is an invalid value"),
        (
            "model={model} runtime=onnx precision=fp16",
            "'precision=fp16' is invalid with 'runtime=onnx', which has fp32",
        ),
        ("model={model} runtime=onnx speed=2", no_argument("speed")),
        ("model={model} onnx", "'onnx' is no argument of the form key=value"),
    ],
)
@needs_onnx
def test_a_wrong_command_gets_one_sentence(words, message, shallow_pt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SyntaxError, ValueError, OSError), match=message):
        entrypoint(f"yolo latency {words.format(model=shallow_pt)}")
    assert {file.name for file in tmp_path.iterdir()} <= {"shallow.pt"}


def test_a_missing_exporter_is_named(shallow_pt, tmp_path):
    if find_spec("litert_torch"):
        pytest.skip("it is installed")
    with pytest.raises(ModuleNotFoundError, match="needs litert_torch.* here: pip install litert-torch"):
        make_bundle(shallow_pt, "litert", project=tmp_path)


def test_a_cut_without_gain_is_named_before_training():
    def report(ratio, dense, pruned):
        rows = {"dense": {"pytorch_latency_p10_ms": dense}, "pruned": {"pytorch_latency_p10_ms": pruned}}
        return {"rows": rows, "pytorch_latency_ratio": ratio, "runtimes": {}}

    assert no_gain(report(2.0, 4.0, 2.0)) == []
    (line,) = no_gain(report(1.02, 4.08, 4.0))
    assert line.startswith("The pruned model is no faster in PyTorch: 4.00 ms, dense 4.08 ms. Fine-tuning will not")
    assert "which is within the noise" in no_gain(report(None, 4.08, 4.0))[0]


def test_an_answer_whose_next_bundle_cannot_be_written_is_refused_before_any_work(settings, tmp_path, monkeypatch):
    answer = {
        "schema": 1,
        "complete": True,
        "runtime": "ncnn",
        "version": "ncnn-1.0",
        "precision": "fp32",
        "threads": 4,
        "imgsz": 32,
        "device": {"name": "a board"},
        "networks": {},
        "convolutions": {},
        "predicted": {},
    }
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    monkeypatch.setitem(KITS, "ncnn", KITS["ncnn"]._replace(exporters=("no_such_package",)))
    keys = {**settings, "budget": str(tmp_path / "answer.json"), "project": str(tmp_path / "runs")}
    with pytest.raises(ModuleNotFoundError, match=r"'budget=.*answer.json' needs no_such_package here: pip install no"):
        DetectionCompressor(overrides=keys)
    assert not (tmp_path / "runs").exists()
