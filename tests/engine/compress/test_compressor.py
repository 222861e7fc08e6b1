# SPDX-License-Identifier: AGPL-3.0-or-later
"""The pipeline, in every way that a user starts it."""

import csv
import json
import os
import random
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import FAST, ROOT, Interrupted, build_model, interrupt, needs, save_dense
from torch import nn

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg import CFG_BOOL_KEYS
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import NUMBER_MARK, YAML
from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.engine.compress.batches import batch_to_measure
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune
from ultralytics.utils import SETTINGS
from ultralytics.utils.torch_utils import strip_optimizer


def parameters(file):
    return sum(p.numel() for p in load_checkpoint(file)[0].parameters())


def epochs_done(run):
    with open(run / "results.csv") as f:
        return [int(row["epoch"]) for row in csv.DictReader(f, skipinitialspace=True)]


def test_yaml_model_goes_through_every_stage(tiny_data, tmp_path):
    model = YOLO("yolov8n.yaml")
    report = model.compress(data=tiny_data, project=str(tmp_path), name="a", **FAST)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-base", "a-finetune", "a-prune"]
    assert list(report["rows"]) == ["dense", "pruned", "fine-tuned"]
    dense, pruned, tuned = report["rows"].values()
    assert dense["weights"] == str(tmp_path / "a-base" / "weights" / "best.pt")
    assert pruned["weights"] == str(tmp_path / "a-prune" / "weights" / "prune.pt")
    assert tuned["weights"] == str(tmp_path / "a-finetune" / "weights" / "best.pt")
    assert dense["gflops"] / pruned["gflops"] == pytest.approx(2, rel=0.03)
    assert pruned["gflops"] == tuned["gflops"] and pruned["parameters"] == tuned["parameters"] < dense["parameters"] / 2
    assert pruned["size_mb"] < dense["size_mb"]
    assert all(0 <= row[k] <= 1 for row in report["rows"].values() for k in ("mAP50", "mAP50-95"))
    assert all(row["pytorch_latency_p10_ms"] > 0 for row in report["rows"].values())
    assert report == json.loads((tmp_path / "a-finetune" / "report.json").read_text())
    assert YAML.load(tmp_path / "a-prune" / "compress.yaml")["speed_up"] == 2.0
    assert sum(p.numel() for p in model.model.parameters()) == tuned["parameters"]
    assert model.ckpt_path == tuned["weights"]
    model.val(data=tiny_data, imgsz=32, plots=False, workers=0, project=str(tmp_path))


def test_cli(settings, tmp_path):
    words = " ".join(f"{k}={v}" for k, v in {**settings, "epochs": 1}.items())
    ultralytics.cfg.entrypoint(f"yolo mode=compress name=cli {words}")
    assert (tmp_path / "cli-prune" / "weights" / "prune.pt").exists()
    assert (tmp_path / "cli-finetune" / "report.json").exists()


def test_whatever_training_takes_the_cut_takes_too(settings, log):
    """AutoBatch, images of several sizes, and a size that is no multiple of the stride."""
    multi_scale = True if "multi_scale" in CFG_BOOL_KEYS else 0.5
    keys = {"prune_method": "group_taylor", "batch": -1, "multi_scale": multi_scale, "imgsz": 40, "prune_batches": 1}
    run = DetectionCompressor(overrides={**settings, **keys, "name": "auto-prune"})
    model = load_checkpoint(run.compress())[0]
    assert model.pruning["reached"] == pytest.approx(2, rel=0.03)
    assert json.loads((run.save_dir / "report.json").read_text())["imgsz"] == 64
    assert "'imgsz=64' is not what the model was trained at. Pass 'imgsz=32'" in log.text
    for batch, images in ((0.7, 16), (3, 3)):
        assert batch_to_measure(SimpleNamespace(batch=batch, device="cpu")) == images


def test_model_is_found_where_ultralytics_looks(settings, tmp_path, monkeypatch, log):
    monkeypatch.setitem(SETTINGS, "weights_dir", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    shutil.copy(settings["model"], tmp_path / "weights" / "mine.pt")
    run = DetectionCompressor(overrides={**settings, "model": "mine.pt", "name": "found-prune"})
    source = load_checkpoint(run.compress())[0].pruning["source"]["path"]
    assert source == str(tmp_path / "weights" / "mine.pt")
    assert "was trained at" not in log.text  # the same image size


def test_same_name_does_not_overwrite(settings, tmp_path):
    first, second = (DetectionCompressor(overrides={**settings, "name": "b-prune"}).compress() for _ in range(2))
    assert [Path(p).parents[1].name for p in (first, second)] == ["b-prune", f"b-prune{NUMBER_MARK}2"]
    third = DetectionCompressor(overrides={**settings, "name": "b-prune", "exist_ok": True, "speed_up": 1.5})
    assert third.save_dir == tmp_path / "b-prune"
    assert load_checkpoint(third.compress())[0].pruning["target"] == 1.5  # not the earlier run's


def test_report_of_a_fine_tuning_takes_metrics_over_that_were_measured_on_the_same_images(settings, tmp_path, log):
    pruned = DetectionCompressor(overrides={**settings, "name": "o-prune", "prune_method": "lamp"}).compress()
    file = tmp_path / "o-prune" / "report.json"
    report = json.loads(file.read_text())
    report["rows"]["dense"]["mAP50-95"] = 0.123
    file.write_text(json.dumps(report))
    keys = {**settings, "model": pruned, "epochs": 1, "distill": False}
    for name, own, taken in (("same", {}, True), ("larger", {"imgsz": 64}, False)):
        DetectionFinetune(overrides={**keys, **own, "name": name}).train()
        row = json.loads((tmp_path / name / "report.json").read_text())["rows"]["dense"]
        assert (row["mAP50-95"] == 0.123) == taken
    YAML.save(tmp_path / "three.yaml", {**YAML.load(settings["data"]), "names": {0: "a", 1: "b", 2: "c"}})
    DetectionFinetune(overrides={**keys, "data": str(tmp_path / "three.yaml"), "name": "three"}).train()
    assert "no report: the dense model was trained for other classes than those of" in log.text
    assert not (tmp_path / "three" / "report.json").exists()


@pytest.mark.parametrize(
    ("keys", "file"), [({}, "x-finetune/weights/best.pt"), ({"finetune": False}, "x-prune/weights/prune.pt")]
)
def test_a_run_does_not_write_over_a_model_that_it_rests_on(settings, tmp_path, keys, file):
    model = tmp_path / file
    model.parent.mkdir(parents=True)
    shutil.copy(settings["model"], model)
    given = {**settings, **keys, "model": str(model), "name": "x", "speed_up": 1.1}
    for key, others in (("model", {}), ("distill_model", {"model": settings["model"]})):
        own = {**given, key: str(model), **others}
        with pytest.raises(
            ValueError, match=rf"'{key}=.*\.pt' would be overwritten by this run, with name=x-prune and"
        ):
            YOLO(own["model"]).compress(**own, exist_ok=True)


def test_article_driver_runs_unchanged(settings, tmp_path):
    """What users of the copied recipe have in their scripts, with paths of this test."""
    param_dict = {
        **settings, "cache": True, "optimizer": "SGD", "close_mosaic": 1, "name": "exp",
        "prune_method": "lamp", "global_pruning": True, "reg": 0.0005, "sl_epochs": 500,
        "sl_hyp": str(ROOT / "ultralytics/cfg/hyp.scratch.sl.yaml"), "sl_model": None,
        "reg_decay": 0.05, "reg_decay_type": "linear", "reg_decay_step": 10, "delta_reg": 1e-4,
        "max_sparsity": 1.0, "iterative_steps": 200,
    }  # fmt: skip
    with open(param_dict["sl_hyp"], errors="ignore") as f:
        hyp = yaml.safe_load(f)
    first = {**param_dict, **hyp, "name": "exp-prune", "patience": 0}
    prune_model_path = DetectionCompressor(overrides=first).compress()
    second = {**param_dict, "model": prune_model_path, "name": "exp-finetune"}
    DetectionFinetune(overrides=second).train()
    best = tmp_path / "exp-finetune" / "weights" / "best.pt"
    assert prune_model_path == str(tmp_path / "exp-prune" / "weights" / "prune.pt")
    assert parameters(best) == parameters(prune_model_path) < parameters(settings["model"]) / 2
    assert epochs_done(tmp_path / "exp-finetune") == [1, 2]


def test_root_script(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(ROOT / "compress.py"))
    param_dict = {**settings, "epochs": 1, "name": "s", "sl_hyp": None}
    path = script["compress"](param_dict)
    script["finetune"](param_dict, path)
    assert path == str(tmp_path / "s-prune" / "weights" / "prune.pt")
    assert (tmp_path / "s-finetune" / "report.json").exists()


def test_resume_continues_within_fine_tuning(settings, tmp_path):
    def interrupt(trainer):
        if trainer.save_dir.name == "r-finetune" and trainer.epoch == 1:
            raise Interrupted

    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", interrupt)
    settings = {**settings, "epochs": 3, "name": "r"}
    with pytest.raises(Interrupted):
        model.compress(**settings)
    pruned = tmp_path / "r-prune" / "weights" / "prune.pt"
    written = pruned.stat().st_mtime_ns
    report = YOLO(settings["model"]).compress(**settings, resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r-finetune", "r-prune"]
    assert pruned.stat().st_mtime_ns == written  # not pruned again
    assert epochs_done(tmp_path / "r-finetune") == [1, 2, 3]
    assert list(report["rows"]) == ["dense", "pruned", "fine-tuned"]
    assert YOLO(settings["model"]).compress(**settings, resume=True) == report  # nothing is left to do


def test_resume_continues_at_the_stage(settings, tmp_path, log):
    compressor = DetectionCompressor(overrides={**settings, "name": "s-prune"})
    compressor._prune(Path(settings["model"]))  # stopped before the evaluation
    assert log.text.count("Pruned weights: ") == 1
    assert not (tmp_path / "s-prune" / "report.json").exists()
    written = compressor.pruned.stat().st_mtime_ns
    resumed = DetectionCompressor(overrides={**settings, "name": "s-prune", "resume": True, "speed_up": 3.0})
    assert resumed.compress() == str(compressor.pruned)
    assert resumed.prune_args.speed_up == 2.0  # the interrupted run's own
    assert compressor.pruned.stat().st_mtime_ns == written
    assert (tmp_path / "s-prune" / "report.json").exists()
    assert log.text.count("Pruned weights: ") == 1  # not of a stage long past


def test_resume_does_not_take_what_an_earlier_run_has_left(settings, tmp_path):
    settings = {**settings, "epochs": 1, "name": "e", "exist_ok": True}
    YOLO(settings["model"]).compress(**settings)
    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        model.compress(**{**settings, "speed_up": 3.0})
    rows = YOLO(settings["model"]).compress(**settings, resume=True)["rows"]
    assert rows["fine-tuned"]["parameters"] == rows["pruned"]["parameters"]
    assert rows["dense"]["gflops"] / rows["fine-tuned"]["gflops"] == pytest.approx(3, rel=0.03)


def test_run_that_stopped_while_it_pruned_is_the_one_to_resume(settings):
    DetectionCompressor(overrides={**settings, "name": "p-prune"}).compress()
    stopped = DetectionCompressor(overrides={**settings, "name": "p-prune", "speed_up": 3.0})
    resumed = DetectionCompressor(overrides={**settings, "name": "p-prune", "resume": True})
    assert resumed.save_dir == stopped.save_dir and resumed.prune_args.speed_up == 3.0
    assert load_checkpoint(resumed.compress())[0].pruning["target"] == 3.0


def stop_after_the_last_epoch(trainer):
    if trainer.epoch == trainer.epochs - 1:
        raise Interrupted


@pytest.mark.parametrize("stripped", [(), pytest.param(("last.pt",), marks=pytest.mark.slow)])
def test_resume_finishes_what_stopped_after_the_last_epoch(settings, tmp_path, stripped):
    model = YOLO(settings["model"])
    model.add_callback("on_fit_epoch_end", stop_after_the_last_epoch)
    with pytest.raises(Interrupted):
        model.compress(**settings, name="f")
    best = tmp_path / "f-finetune" / "weights" / "best.pt"
    for name in stripped:
        strip_optimizer(best.with_name(name))
    assert load_checkpoint(best)[1]["optimizer"]
    report = YOLO(settings["model"]).compress(**settings, name="f", resume=True)
    assert list(report["rows"]) == ["dense", "pruned", "fine-tuned"]
    assert load_checkpoint(best)[1]["optimizer"] is None and epochs_done(tmp_path / "f-finetune") == [1, 2]


@pytest.mark.parametrize("stop", ["epoch", "report"])
def test_article_style_fine_tuning_that_has_ended_gets_its_report(settings, tmp_path, monkeypatch, stop):
    path = DetectionCompressor(overrides={**settings, "name": "t-prune"}).compress()
    overrides = {**settings, "model": path, "name": "t-finetune"}
    trainer = DetectionFinetune(overrides=overrides)
    with monkeypatch.context() as patch:
        if stop == "epoch":
            trainer.add_callback("on_fit_epoch_end", stop_after_the_last_epoch)
        else:
            patch.setattr(DetectionFinetune, "report", interrupt)
        with pytest.raises(Interrupted):
            trainer.train()
    report = tmp_path / "t-finetune" / "report.json"
    assert not report.exists()
    DetectionFinetune(overrides={**overrides, "resume": True}).train()
    assert report.exists() and epochs_done(tmp_path / "t-finetune") == [1, 2]
    assert not (tmp_path / f"t-finetune{NUMBER_MARK}2").exists() and not torch.are_deterministic_algorithms_enabled()


def test_article_style_fine_tuning_does_not_resume_that_of_another_cut(settings, tmp_path, log):
    for target, resume in ((2.0, False), (3.0, True)):
        path = DetectionCompressor(overrides={**settings, "name": "o-prune", "speed_up": target}).compress()
        own = {"model": path, "name": "o-finetune", "epochs": 1, "resume": resume}
        DetectionFinetune(overrides={**settings, **own}).train()
    assert parameters(tmp_path / f"o-finetune{NUMBER_MARK}2" / "weights" / "best.pt") == parameters(path)
    assert f"o-finetune is no training of 'model={path}'" in log.text


@pytest.mark.parametrize("keys", [{"speed_up": 500.0}, {"data": "three"}])
def test_run_that_was_refused_is_not_the_one_to_resume(tiny_data, settings, tmp_path, keys):
    YAML.save(tmp_path / "three.yaml", {**YAML.load(tiny_data), "names": {0: "blue", 1: "yellow", 2: "red"}})
    keys = {k: str(tmp_path / "three.yaml") if v == "three" else v for k, v in keys.items()}
    run = DetectionCompressor(overrides={**settings, "name": "q-prune"})
    with pytest.raises(ValueError, match="cannot be reached|has 3 classes"):
        DetectionCompressor(overrides={**settings, "name": "q-prune", **keys}).compress()
    resumed = DetectionCompressor(overrides={**settings, "name": "q-prune", "resume": True})
    assert resumed.save_dir == run.save_dir


def test_base_training_is_a_stock_run(tiny_data, tmp_path):
    """A DDP worker that lacks this package refuses its keys."""
    seen = []

    for resume in (False, True):
        own = {
            "model": "yolov8n.yaml",
            "data": tiny_data,
            "project": str(tmp_path),
            "name": "k-prune",
            "resume": resume,
        }
        run = DetectionCompressor(overrides={**FAST, **own})
        run.add_callback("on_train_start", lambda trainer: seen.append(vars(trainer.args)))
        run.add_callback("on_fit_epoch_end", interrupt)
        with pytest.raises(Interrupted):
            run.compress()
    assert [args["imgsz"] for args in seen] == [32, 32] and seen[1]["resume"]
    assert not any(set(DEFAULTS) & set(args) for args in seen)


def test_report_validates_every_model_with_the_same_max_det(settings, tmp_path):
    def crowded(trainer):
        trainer.args.max_det = 999  # as Ultralytics does for training images with as many objects

    path = DetectionCompressor(overrides={**settings, "name": "d-prune"}).compress()
    trainer = DetectionFinetune(overrides={**settings, "epochs": 1, "model": path, "name": "d-finetune"})
    trainer.add_callback("on_train_start", crowded)
    trainer.train()
    reports = [json.loads((tmp_path / run / "report.json").read_text()) for run in ("d-prune", "d-finetune")]
    assert [report["max_det"] for report in reports] == [300, 300]


def test_names_of_the_command_line(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, "weights_dir", str(tmp_path))
    monkeypatch.setitem(SETTINGS, "runs_dir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(settings["model"], tmp_path / "yolov8n.pt")
    words = f"yolo compress model=yolov8n data={settings['data']} imgsz=32 project=2024 name=7 device=cpu"
    with pytest.raises(FileNotFoundError, match="found no run to resume with name=7-prune and project=2024"):
        ultralytics.cfg.entrypoint(f"{words} resume=True")
    with pytest.raises(FileNotFoundError, match="found no sweep to resume with name=7 and project=2024"):
        ultralytics.cfg.entrypoint(f"{words} speed_up=[1.5,2] resume=True")


def test_article_style_fine_tuning_resumes(settings, tmp_path):
    def interrupt(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    path = DetectionCompressor(overrides={**settings, "name": "t-prune"}).compress()
    overrides = {**settings, "model": path, "name": "t-finetune"}
    trainer = DetectionFinetune(overrides=overrides)
    trainer.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        trainer.train()
    DetectionFinetune(overrides={**overrides, "resume": True}).train()
    assert epochs_done(tmp_path / "t-finetune") == [1, 2]


@pytest.mark.parametrize("method", ["group_taylor", "group_hessian"])
def test_gradient_methods_read_training_batches(settings, method):
    overrides = {**settings, "name": "g-prune", "prune_method": method, "prune_batches": 2, "iterative_steps": 2}
    compressor = DetectionCompressor(overrides=overrides)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    compressor._prune(Path(settings["model"]))
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    model, _ = load_checkpoint(compressor.pruned)
    assert model.pruning["prune_method"] == method and model.pruning["reached"] == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("method", ["lamp", "group_taylor"])
def test_data_of_other_classes_is_refused_before_work(tiny_data, settings, tmp_path, method):
    data = {**YAML.load(tiny_data), "names": {0: "blue", 1: "yellow", 2: "red"}}
    YAML.save(tmp_path / "three.yaml", data)
    overrides = {**settings, "data": str(tmp_path / "three.yaml"), "prune_method": method, "name": "g-prune"}
    with pytest.raises(ValueError, match="three.yaml' has 3 classes and 'model=.*best.pt' 2"):
        DetectionCompressor(overrides=overrides).compress()
    assert not list(tmp_path.rglob("prune.pt"))


@pytest.mark.parametrize(
    ("task", "keys", "own", "found"),
    [
        pytest.param(
            *("detect", {"channels": 1}, "channels=3", "channels=1"),
            marks=needs("images that are not in colour"),
        ),
        ("pose", {"kpt_shape": [2, 2]}, r"kpt_shape=\[17, 3\]", r"kpt_shape=\[2, 2\]"),
    ],
)
def test_data_of_other_channels_or_keypoints_is_refused_before_work(
    tiny_data, settings, tmp_path, task, keys, own, found
):
    YAML.save(tmp_path / "other.yaml", {**YAML.load(tiny_data), **keys})
    yolo = YOLO(settings["model"]) if task == "detect" else YOLO(f"yolov8n-{task}.yaml")
    if task != "detect":
        yolo.model = build_model(f"yolov8n-{task}", nc=2)
        settings["model"] = save_dense(yolo, tmp_path / "dense.pt")
    with pytest.raises(ValueError, match=f"'data=.*other.yaml' has {found} and 'model=.*' {own}. Use the data set"):
        YOLO(settings["model"]).compress(**{**settings, "data": str(tmp_path / "other.yaml"), "name": "o"})
    assert not (tmp_path / "o-prune").exists()


class Filter(nn.Module):
    """Filters images by their frequencies, which has no form in ONNX."""

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])


@pytest.fixture
def without_onnx(settings, tmp_path, every_runtime):
    """A trained model that PyTorch alone can run."""
    yolo = YOLO(settings["model"])
    yolo.model.model[9].cv1.act = Filter()
    return {**settings, "model": save_dense(yolo, tmp_path / "dense.pt"), "speed_up": 1.3, "epochs": 1, "name": "x"}


def test_a_model_that_cannot_be_exported_is_compressed_all_the_same(without_onnx, log):
    threads = torch.get_num_threads()
    report = YOLO(without_onnx["model"]).compress(**without_onnx)
    assert list(report["rows"]) == ["dense", "pruned", "fine-tuned"]
    assert report["runtimes"]["onnx"].startswith("not measured: ")
    assert "onnx_latency_ratio" not in report and report["rows"]["pruned"]["pytorch_latency_p10_ms"] > 0
    assert "No latency in ONNX Runtime" in log.text and torch.get_num_threads() == threads


def test_a_budget_where_the_model_cannot_run_is_refused(without_onnx):
    with pytest.raises(ValueError, match="'budget=onnx' is invalid with this model, which cannot be exported: "):
        YOLO(without_onnx["model"]).compress(**without_onnx, budget="onnx")


def test_nothing_to_resume_is_an_error(settings):
    with pytest.raises(FileNotFoundError, match="'resume=True' found no run to resume with name=nothing-prune"):
        YOLO(settings["model"]).compress(**settings, name="nothing", resume=True)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("model", "weights.onnx", ValueError, "'model=weights.onnx' is invalid"),
        ("model", None, ValueError, "'model=None' is invalid"),
        ("model", "nowhere/best.pt", FileNotFoundError, "nowhere/best.pt"),
        ("data", None, ValueError, "'data=None' is invalid"),
        ("speed_up", 0.5, ValueError, "'speed_up=0.5' is an invalid value"),
    ],
)
def test_bad_input_is_refused_before_work(settings, tmp_path, key, value, error, message):
    with pytest.raises(error, match=message):
        DetectionCompressor(overrides={**settings, "name": "x-prune", key: value})
    assert not list(tmp_path.iterdir())


def test_unreachable_target_leaves_no_weights(settings, tmp_path):
    with pytest.raises(ValueError, match="'speed_up=500.0' cannot be reached"):
        DetectionCompressor(overrides={**settings, "name": "x-prune", "speed_up": 500.0}).compress()
    assert not list(tmp_path.rglob("*.pt"))


def test_fine_tuning_a_dense_model_is_refused(settings):
    with pytest.raises(ValueError, match="is not a pruned checkpoint"):
        DetectionFinetune(overrides=settings)


def test_missing_dense_figures_are_reported_not_raised(settings, tmp_path):
    path = DetectionCompressor(overrides={**settings, "name": "m-prune"}).compress()
    os.remove(tmp_path / "m-prune" / "report.json")
    DetectionFinetune(overrides={**settings, "epochs": 1, "model": path, "name": "m-finetune"}).train()
    assert (tmp_path / "m-finetune" / "weights" / "best.pt").exists()
    assert not (tmp_path / "m-finetune" / "report.json").exists()
