# SPDX-License-Identifier: AGPL-3.0-or-later
"""'quantize=8': the fine-tuning is quantization-aware, and nothing else of a run."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import FAST, Interrupted, interrupt, needs

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.quantization import is_qat, strip_qat
from ultralytics.engine.compress.checks import quantization
from ultralytics.engine.pruning.files import read_csv
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune, DetectionSparsifier
from ultralytics.utils.patches import torch_load

pytestmark = needs("quantization-aware training")
needs_modelopt = pytest.mark.skipif(
    not (find_spec("modelopt") and find_spec("huggingface_hub")), reason="nvidia-modelopt is not installed"
)


def is_quantised(file):
    return bool(torch_load(file, map_location="cpu").get("modelopt"))


@pytest.fixture(scope="module")
def quantised(best_pt, tiny_data, tmp_path_factory):
    """A run of all stages with 'quantize=8': its folder's parent and its report."""
    folder = tmp_path_factory.mktemp("quantised")
    settings = {**FAST, "epochs": 1, "data": tiny_data, "project": str(folder), "name": "run"}
    model = YOLO("yolov8n.yaml")
    report = model.compress(**settings, quantize=8, prune_method="slim", sl_epochs=1)
    return folder, report, model


@needs_modelopt
def test_the_fine_tuning_alone_is_quantised(quantised):
    folder, report, model = quantised
    files = {stage: folder / f"run-{stage}" / "weights" / "best.pt" for stage in ("base", "sparsify", "finetune")}
    assert {stage: is_quantised(file) for stage, file in files.items()} == {
        "base": False,
        "sparsify": False,
        "finetune": True,
    }
    prune_pt = torch_load(folder / "run-prune" / "weights" / "prune.pt", map_location="cpu")
    assert not prune_pt.get("modelopt")
    assert prune_pt["train_args"]["quantize"] is None
    assert list(report["rows"]) == ["dense", "sparse", "pruned", "fine-tuned"]
    assert report["rows"]["fine-tuned"]["gflops"] == report["rows"]["pruned"]["gflops"]
    assert is_qat(model.model)
    assert report["quantised"] == ["fine-tuned"]
    assert "Accuracy of fine-tuned: of INT8 weights" in (folder / "run-finetune" / "report.html").read_text()


@needs_modelopt
def test_a_quantised_checkpoint_is_refused_as_the_model_and_can_be_stripped(quantised, tiny_data, tmp_path):
    qat = quantised[0] / "run-finetune" / "weights" / "best.pt"
    settings = {**FAST, "data": tiny_data, "project": str(tmp_path / "runs"), "epochs": 1}
    with pytest.raises(ValueError, match="Prune first, quantise after"):
        DetectionCompressor(overrides={**settings, "model": str(qat)})
    with pytest.raises(ValueError, match="Prune first, quantise after"):
        DetectionFinetune(overrides={**settings, "model": str(qat)})
    sparse = {"prune_method": "slim", "sl_model": str(qat)}
    with pytest.raises(ValueError, match="'sl_model=.*Prune first, quantise after"):
        YOLO("yolov8n.yaml").compress(**settings, **sparse)
    assert not (tmp_path / "runs").exists()
    stripped = YOLO(qat)
    strip_qat(stripped.model)
    stripped.save(tmp_path / "plain.pt")
    run = DetectionCompressor(overrides={**settings, "model": str(tmp_path / "plain.pt"), "speed_up": 1.2})
    assert not is_quantised(run.compress())


@needs_modelopt
def test_a_fine_tuning_resumes_inside_quantization_aware_training(settings):
    settings = {**settings, "name": "run", "quantize": 8}
    prune_pt = DetectionCompressor(overrides={**settings, "quantize": None}).compress()
    run = DetectionFinetune(overrides={**settings, "model": prune_pt})
    run.add_callback("on_fit_epoch_end", lambda trainer: trainer.epoch == 1 and interrupt())
    with pytest.raises(Interrupted):
        run.train()
    ranges = torch_load(run.last, map_location="cpu")["modelopt"]["ranges"]
    again = DetectionFinetune(overrides={"resume": str(run.last)})
    again.train()
    finished = torch_load(again.best, map_location="cpu")["modelopt"]["ranges"]
    amax = [name for name in ranges if name.endswith("input_quantizer._amax")]
    assert amax
    torch.testing.assert_close({k: finished[k] for k in amax}, {k: ranges[k] for k in amax})


@needs_modelopt
def test_stock_training_of_a_pruned_model_can_be_quantization_aware(settings):
    prune_pt = DetectionCompressor(overrides=settings).compress()
    pruned = YOLO(prune_pt)
    parameters = sum(p.numel() for p in pruned.model.parameters())
    keys = {k: settings[k] for k in FAST if k != "speed_up"}
    pruned.train(data=settings["data"], project=settings["project"], name="plain", quantize=8, **{**keys, "epochs": 1})
    best = Path(settings["project"], "plain", "weights", "best.pt")
    assert is_quantised(best)
    assert sum(p.numel() for p in YOLO(best).model.parameters()) == parameters
    YOLO(best).train(data=settings["data"], project=settings["project"], name="float", **{**keys, "epochs": 1})
    assert not is_quantised(Path(settings["project"], "float", "weights", "best.pt"))


@needs_modelopt
@pytest.mark.slow
def test_a_sweep_of_quantised_fine_tunings(settings):
    result = YOLO(settings["model"]).compress(**{**settings, "epochs": 1, "speed_up": [1.5, 2.0], "quantize": 8})
    assert [is_quantised(row["weights"]) for row in result["rows"]] == [False, True, True]


@needs_modelopt
def test_a_quantization_aware_training_follows_the_fine_tuning(settings, log):
    keys = {**settings, "epochs": 1, "name": "run", "plots": True, "optimizer": "AdamW", "lr0": 0.001}
    model = YOLO(settings["model"])
    report = model.compress(**keys, qat_epochs=2)
    tuned, qat = (Path(settings["project"], f"run-{stage}", "weights", "best.pt") for stage in ("finetune", "qat"))
    assert [is_quantised(file) for file in (tuned, qat)] == [False, True]
    assert is_qat(model.model)
    assert [*report["rows"]] == ["dense", "pruned", "fine-tuned", "quantised"]
    assert {name: Path(row["weights"]) for name, row in report["rows"].items()} == {
        "dense": Path(settings["model"]),
        "pruned": Path(settings["project"], "run-prune", "weights", "prune.pt"),
        "fine-tuned": tuned,
        "quantised": qat,
    }
    assert report["quantised"] == ["quantised"]
    assert len(report["curve"]["epochs"]) == 2
    before = json.loads((tuned.parents[1] / "report.json").read_text())
    assert report["rows"]["fine-tuned"]["mAP50-95"] == before["rows"]["fine-tuned"]["mAP50-95"]
    rates = [float(row[f"lr/pg{i}"]) for row in read_csv(qat.parents[1] / "results.csv") for i in range(3)]
    assert 0 < max(rates) <= 0.01 * keys["lr0"]  # of the biases as well, which Ultralytics warms up from 0.1


@needs_modelopt
def test_a_run_resumes_inside_the_quantization_aware_training(settings):
    keys = {**settings, "epochs": 1, "name": "run", "qat_epochs": 3}

    def stop(trainer):
        if trainer.args.quantize and trainer.epoch == 1:
            interrupt()

    model = YOLO(settings["model"])
    model.add_callback("on_fit_epoch_end", stop)
    with pytest.raises(Interrupted):
        model.compress(**keys)
    qat = Path(settings["project"], "run-qat")
    tuned = qat.with_name("run-finetune") / "weights" / "best.pt"
    modified = tuned.stat().st_mtime_ns
    report = YOLO(settings["model"]).compress(**keys, resume=True)
    assert [*report["rows"]] == ["dense", "pruned", "fine-tuned", "quantised"]
    assert [int(row["epoch"]) for row in read_csv(qat / "results.csv")] == [1, 2, 3]
    assert max(float(row["lr/pg0"]) for row in read_csv(qat / "results.csv")) < 1e-4
    assert tuned.stat().st_mtime_ns == modified
    (qat / "report.json").unlink()  # stopped before the report
    again = YOLO(settings["model"]).compress(**keys, resume=True)
    assert again["rows"]["quantised"]["mAP50-95"] == report["rows"]["quantised"]["mAP50-95"]


@needs_modelopt
def test_one_quantization_aware_training_is_enough(settings, tmp_path):
    settings = {**settings, "project": str(tmp_path / "runs"), "qat_epochs": 2}
    with pytest.raises(
        ValueError, match="'qat_epochs=2' is invalid with 'quantize=8', with which the whole fine-tuning"
    ):
        YOLO(settings["model"]).compress(**settings, quantize=8)
    assert not (tmp_path / "runs").exists()


def test_a_fine_tuning_by_itself_has_no_stage_after_it(settings):
    with pytest.raises(ValueError, match="'qat_epochs=2' is a stage of 'yolo compress'"):
        DetectionFinetune(overrides={**settings, "qat_epochs": 2})


def test_the_packages_of_the_training_after_the_fine_tuning_are_checked_before_any_work(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantization, "QAT_PACKAGES", ["no-such-package>=1.0"])
    settings = {**settings, "project": str(tmp_path / "runs"), "qat_epochs": 2}
    with pytest.raises(ModuleNotFoundError, match="'qat_epochs=2' needs no-such-package"):
        YOLO(settings["model"]).compress(**settings)
    assert not (tmp_path / "runs").exists()


def test_without_its_packages_it_is_refused_before_any_work(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "QAT_PACKAGES", ["no-such-package>=1.0"])
    settings = {**settings, "project": str(tmp_path / "runs"), "quantize": 8}
    with pytest.raises(ModuleNotFoundError, match=r"no-such-package.*pip install 'ultralytics-compress\[quantize\]'"):
        YOLO(settings["model"]).compress(**settings)
    assert not (tmp_path / "runs").exists()


@needs_modelopt
def test_it_does_not_go_with_a_compiled_model(settings):
    with pytest.raises(ValueError, match="'compile=True' does not go with 'quantize=8'"):
        DetectionCompressor(overrides={**settings, "quantize": 8, "compile": True})


def test_a_sparsity_training_is_not_quantised(settings):
    with pytest.raises(ValueError, match="'quantize=8' is not supported in sparsity training"):
        DetectionSparsifier(overrides={**settings, "prune_method": "slim", "quantize": 8})
