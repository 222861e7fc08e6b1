# SPDX-License-Identifier: AGPL-3.0-or-later
"""The deploy stage: files that are exported, validated, timed and reported."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import FAST

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.quantization import HAS_PRECISIONS

if not HAS_PRECISIONS:
    pytest.skip("this Ultralytics exports without 'quantize'", allow_module_level=True)

from ultralytics.engine.compress.deploy import relief, stage
from ultralytics.engine.compress.deploy import rows as deployed_rows
from ultralytics.engine.compress.deploy.formats import missing_packages
from ultralytics.engine.compress.deploy.quantisers import QUANTISERS
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune


def needs_format(name, int8=False):
    """Return a mark that skips a test where a format's packages are missing."""
    missing = missing_packages(name, int8)
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stage, "REPEATS", 5)


@pytest.fixture(scope="module")
def tuned(best_pt, tiny_data, tmp_path_factory):
    """The folder of a fine-tuning without files."""
    folder = tmp_path_factory.mktemp("tuned")
    keys = {**FAST, "epochs": 1, "data": tiny_data, "project": str(folder), "name": "run"}
    YOLO(best_pt).compress(**keys)
    return folder / "run-finetune"


@pytest.fixture
def deployed(settings, tuned, tmp_path):
    """Return a function that makes files of a copy of that fine-tuning and gives the report."""
    folder = shutil.copytree(tuned, tmp_path / "run-finetune")

    def run(target, **keys):
        compressor = DetectionCompressor(overrides={**settings, "name": "own-prune", "deploy": target, **keys})
        return json.loads(stage.deploy(compressor, folder / "weights" / "best.pt").read_text())

    return run


@pytest.fixture
def compressed(settings):
    """Return a function that runs all stages with 'deploy' and gives the report."""

    def run(deploy, **keys):
        return YOLO(settings["model"]).compress(**{**settings, "epochs": 1, "name": "run", "deploy": deploy, **keys})

    return run


def test_every_file_has_a_row_and_the_report_names_the_one_to_deploy(compressed, settings, log):
    report = compressed("torchscript", plots=True)
    rows = report["deploy"]["rows"]
    assert [(row["model"], row["target"]) for row in rows] == [("dense", "torchscript"), ("fine-tuned", "torchscript")]
    for row in rows:
        assert Path(row["file"]).is_file()
        assert row["error"] is None
        assert row["size_mb"] == Path(row["file"]).stat().st_size / 1e6
        assert 0 < row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"]
        assert row["agreement"] == 1.0
        assert row["mAP50-95"] is not None
    folder = Path(settings["project"], "run-finetune")
    assert report == json.loads((folder / "report.json").read_text())
    page = (folder / "report.html").read_text()
    assert "Files to deploy" in page
    assert f"Deploy {rows[1]['file']}: " in log.text
    assert (folder / "deploy" / "deploy.csv").exists()
    assert (folder / "deploy.png").exists()
    assert [row["picture"] for row in report["deploy"]["differences"]]
    assert (folder / "deploy" / "differences.png").exists()
    assert [*folder.glob("weights/*.torchscript")] == []


def test_a_format_that_fails_is_a_row_with_its_reason(deployed, monkeypatch, log):
    def fail(weights, name, target, *args):
        if name == "dense":
            raise RuntimeError("this converter is broken")
        return real(weights, name, target, *args)

    real = deployed_rows.export
    monkeypatch.setattr(deployed_rows, "export", fail)
    dense, tuned = deployed("torchscript")["deploy"]["rows"]
    assert dense["error"] == "RuntimeError: this converter is broken"
    assert dense["file"] is None
    assert tuned["error"] is None
    assert tuned["p10_ms"] > 0
    assert "dense to torchscript failed: RuntimeError: this converter is broken" in log.text


def test_a_stage_that_was_stopped_goes_on_where_it_was(compressed, settings, monkeypatch):
    exported = []

    def record(weights, name, target, *args):
        if name == "fine-tuned" and len(exported) == 1:
            exported.append("stopped")
            raise KeyboardInterrupt
        exported.append(name)
        return real(weights, name, target, *args)

    real = deployed_rows.export
    monkeypatch.setattr(deployed_rows, "export", record)
    with pytest.raises(KeyboardInterrupt):
        compressed("torchscript")
    report = compressed("torchscript", resume=True)
    assert exported == ["dense", "stopped", "fine-tuned"]
    assert [row["error"] for row in report["deploy"]["rows"]] == [None, None]
    stages = YAML.load(Path(settings["project"], "run-prune", "stages.yaml"))
    assert "result" in stages["deploy"]
    compressed("torchscript", resume=True)  # everything is complete
    assert exported == ["dense", "stopped", "fine-tuned"]


def test_a_fine_tuning_by_itself_deploys_too(settings):
    prune_pt = DetectionCompressor(overrides=settings).compress()
    run = DetectionFinetune(overrides={**settings, "model": prune_pt, "epochs": 1, "deploy": "torchscript"})
    run.train()
    report = json.loads((run.save_dir / "report.json").read_text())
    assert [row["error"] for row in report["deploy"]["rows"]] == [None, None]


@pytest.mark.slow
def test_a_sweep_exports_the_dense_model_once(settings, monkeypatch):
    def record(weights, name, target, *args):
        exported.append(name)
        return real(weights, name, target, *args)

    exported = []
    real = deployed_rows.export
    monkeypatch.setattr(deployed_rows, "export", record)
    keys = {**settings, "epochs": 1, "speed_up": [1.5, 2.0], "deploy": "torchscript"}
    result = YOLO(settings["model"]).compress(**keys)
    assert exported == ["dense", "fine-tuned", "fine-tuned"]
    report = json.loads((Path(result["rows"][2]["weights"]).parents[1] / "report.json").read_text())
    assert [row["error"] for row in report["deploy"]["rows"]] == [None, None]


@needs_format("onnx", int8=True)
def test_onnx_is_quantised_unsigned_from_training_pictures(deployed, tiny_data, monkeypatch):
    import onnx

    seen = []

    def record(exporter, *args):
        file = real(exporter, *args)
        seen.append(exporter.get_int8_calibration_dataloader().dataset.im_files)
        return file

    real = QUANTISERS["onnx"]
    monkeypatch.setitem(QUANTISERS, "onnx", record)
    rows = deployed("onnx-int8")["deploy"]["rows"]
    assert [(row["model"], row["target"], row["quantised"]) for row in rows] == [
        ("dense", "onnx", ""),
        ("fine-tuned", "onnx", ""),
        ("dense", "onnx-int8", "calibrated"),
        ("fine-tuned", "onnx-int8", "calibrated"),
    ]
    assert [row["error"] for row in rows] == [None] * 4
    assert rows[3]["size_mb"] < rows[1]["size_mb"] / 2
    train = Path(tiny_data).parent / "images" / "train"
    assert [{Path(file).parent for file in files} for files in seen] == [{train}] * 2
    model = onnx.load(rows[3]["file"])
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    zeros = {t.name: t for t in model.graph.initializer}
    assert quantisers
    assert all(zeros[node.input[2]].data_type == onnx.TensorProto.UINT8 for node in quantisers)


@needs_format("onnx", int8=True)
def test_layers_that_lose_most_stay_in_float_if_int8_costs_too_much(deployed, monkeypatch, log):
    import onnx

    def measured(file, *args):
        if file.stem.startswith("dense"):
            return {"mAP50": 0.5, "mAP50-95": 0.5}, {}
        if "deploy" not in file.parts:  # made to be measured
            return {"mAP50": 0.4, "mAP50-95": 0.4}, {}
        layers = [node for node in onnx.load(file).graph.node if node.op_type == "DequantizeLinear"]
        counts.append(len(layers))
        accuracy = {0: 0.5, 1: 0.4, 2: 0.45, 3: 0.495}[len(counts) - 1]
        return {"mAP50": accuracy, "mAP50-95": accuracy}, {}

    counts = []
    monkeypatch.setattr(relief, "PIECES", 8)
    monkeypatch.setattr(deployed_rows, "validate_file", measured)
    rows = deployed("onnx-int8")["deploy"]["rows"]
    assert [(row["target"], row["in_float"]) for row in rows] == [
        ("onnx", 0.0),
        ("onnx", 0.0),
        ("onnx-int8", 0.0),
        ("onnx-int8", 0.25),
    ]
    assert counts[0] == 0 < counts[3] < counts[2] < counts[1]
    assert "INT8 costs 0.1000 mAP50-95" in log.text and "the 10% of the layers that lose most stay in float" in log.text


@needs_format("onnx", int8=True)
def test_what_layers_in_float_gain_is_kept_though_it_is_not_enough(deployed, monkeypatch, log):
    """LiteRT, 0.047, 0.017, 0.016 and 0.012 below float with 0, 10, 25 and 50% of the layers: the first was taken."""

    def measured(file, *args):
        accuracy = 0.5 if "deploy" in file.parts else 0.4
        accuracy = next(found) if file.stem == "fine-tuned_int8" and "deploy" in file.parts else accuracy
        return {"mAP50": accuracy, "mAP50-95": accuracy}, {}

    found = iter([0.453, 0.483, 0.484, 0.488, 0.483])
    monkeypatch.setattr(relief, "PIECES", 8)
    monkeypatch.setattr(deployed_rows, "validate_file", measured)
    row = deployed("onnx-int8")["deploy"]["rows"][-1]
    assert (row["in_float"], row["mAP50-95"]) == (0.1, 0.483)
    assert log.text.count("the 10% of the layers that lose most stay in float") == 2
    assert "all layers are INT8 again" not in log.text and "it is not proposed" in log.text


@needs_format("onnx", int8=True)
def test_int8_throughout_is_kept_if_layers_cannot_be_taken_out_of_it(deployed, monkeypatch, log):
    def measured(file, *args):
        if "deploy" not in file.parts:  # made to be measured
            raise RuntimeError("no room left")
        accuracy = 0.4 if "onnx-int8" in file.parts else 0.5
        return {"mAP50": accuracy, "mAP50-95": accuracy}, {}

    monkeypatch.setattr(relief, "PIECES", 2)
    monkeypatch.setattr(deployed_rows, "validate_file", measured)
    rows = deployed("onnx-int8")["deploy"]["rows"]
    assert [(row["error"], row["in_float"]) for row in rows] == [(None, 0.0)] * 4
    assert all(Path(row["file"]).exists() for row in rows)
    assert log.text.count("model to onnx-int8 failed: RuntimeError: no room left") == 2
    assert "all layers are INT8 again" in log.text


@pytest.mark.slow
@needs_format("onnx", int8=True)
def test_trained_weights_are_calibrated_as_onnx_runtime_is_fast(compressed):
    """With the trained ranges, which are those of inputs alone, it runs every convolution in float."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    rows = compressed("onnx-int8", quantize=8)["deploy"]["rows"]
    assert [row["error"] for row in rows] == [None] * 4
    assert [row["quantised"] for row in rows] == ["", "", "calibrated", "recalibrated"]
    assert rows[3]["size_mb"] < rows[1]["size_mb"] / 2
    assert rows[3]["agreement"] is not None
    nodes = onnx.load(rows[3]["file"]).graph.node
    readers = {name: node.op_type for node in nodes for name in node.input}
    assert sum(readers.get(n.output[0]) == "QuantizeLinear" for n in nodes if n.op_type == "Conv") > 10


@needs_format("onnx", int8=True)
def test_int8_throughout_is_kept_if_no_layer_in_float_helps(deployed, monkeypatch, log):
    def measured(file, *args):
        accuracy = 0.4 if file.stem == "fine-tuned_int8" else 0.5
        return {"mAP50": accuracy, "mAP50-95": accuracy}, {}

    monkeypatch.setattr(relief, "PIECES", 2)
    monkeypatch.setattr(deployed_rows, "validate_file", measured)
    row = deployed("onnx-int8")["deploy"]["rows"][-1]
    assert (row["in_float"], row["mAP50-95"]) == (0.0, 0.4)
    assert "all layers are INT8 again" in log.text
    assert "it is not proposed. A quantization-aware training may get it back: 'qat_epochs'." in log.text


@pytest.mark.slow
@needs_format("onnx", int8=True)
def test_one_run_has_the_pruned_model_calibrated_and_trained(compressed, settings):
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    report = compressed("onnx-int8", qat_epochs=1)
    rows = report["deploy"]["rows"]
    assert [row["error"] for row in rows] == [None] * 5
    assert [(row["model"], row["target"], row["quantised"]) for row in rows] == [
        ("dense", "onnx", ""),
        ("fine-tuned", "onnx", ""),
        ("dense", "onnx-int8", "calibrated"),
        ("fine-tuned", "onnx-int8", "calibrated"),
        ("quantised", "onnx-int8", "recalibrated"),
    ]
    assert [*report["rows"]] == ["dense", "pruned", "fine-tuned", "quantised"]
    assert Path(settings["project"], "run-qat", "report.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "deploy",
    [
        pytest.param("openvino-int8", marks=needs_format("openvino", True)),
        pytest.param("litert-int8", marks=needs_format("litert", True)),
        pytest.param("ncnn", marks=needs_format("ncnn")),
        pytest.param("mnn", marks=needs_format("mnn")),
    ],
)
def test_files_of_every_runtime_are_validated_and_timed(deployed, deploy):
    report = deployed(deploy)
    for row in report["deploy"]["rows"]:
        assert row["error"] is None
        assert row["p10_ms"] > 0
        assert row["threads"] == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("yolo26n-cls", marks=pytest.mark.slow),
        pytest.param("yolo11n-seg", marks=pytest.mark.long),
        pytest.param("yolov8n-pose", marks=pytest.mark.long),
        pytest.param("yolo11n-obb", marks=pytest.mark.long),
        pytest.param("yolo26n-sem", marks=pytest.mark.long),
    ],
)
def test_every_task_is_deployed(name, tmp_path):
    data = {"cls": "shapes-cls.yaml", "seg": "shapes-seg.yaml", "pose": "shapes-pose.yaml"}
    data |= {"obb": "shapes-obb.yaml", "sem": "shapes-sem.yaml"}
    keys = {**FAST, "epochs": 1, "project": str(tmp_path), "fraction": 0.05, "plots": True}
    report = YOLO(f"{name}.yaml").compress(**keys, data=data[name.split("-")[1]], deploy="torchscript")
    assert [row["error"] for row in report["deploy"]["rows"]] == [None, None]
