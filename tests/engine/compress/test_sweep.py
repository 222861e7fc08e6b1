# SPDX-License-Identifier: AGPL-3.0-or-later
"""Several targets from one dense model."""

import csv
import json
from pathlib import Path

import cv2
import pytest
import torch
from conftest import FAST, Interrupted, also_slow, interrupt

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import NUMBER_MARK, YAML
from ultralytics.cfg.compress.keys import get_prune_cfg
from ultralytics.engine.compress.grid.table import compare_cells, save_sweep
from ultralytics.engine.pruning.ranking import sensitivity
from ultralytics.engine.pruning.report.sweep_plot import pareto_front
from ultralytics.models.yolo.detect.compress import DetectionCompressor


def test_pareto_front():
    points = [(10, 0.5), (5, 0.6), (3, 0.4), (4, 0.4), (3, 0.3), (8, 0.7), (1, 0.1)]
    assert pareto_front(points) == [6, 2, 1, 5]
    assert pareto_front([(1, float("nan")), (2, 0.2), (3, 0.1)]) == [1]


def test_targets_that_fine_tuning_made_worse_are_named(tmp_path, log):
    def row(name, cut, tuned):
        return {"model": name, "gflops": 1.0, "top1 after the cut": cut, "top1": tuned, "weights": "best.pt"}

    rows = [row("dense", 0.7, 0.7), row("1.5x", 0.68, 0.46), row("2x", 0.6, 0.65), row("3x", 0.6, 0.35)]
    save_sweep({"metric": "top1", "imgsz": 32, "rows": rows}, tmp_path, plots=False)
    assert "1.5x, 3x: fine-tuning ended below" in log.text
    assert "Deploy 3x, for example: yolo export model=best.pt format=onnx imgsz=32" in log.text
    log.clear()
    save_sweep({"metric": "top1", "imgsz": 32, "rows": rows[::2]}, tmp_path, plots=False)
    assert "below" not in log.text


def test_rows_hold_the_figures_of_each_target(best_pt):
    """Of real runs as short as the tests' every accuracy is 0, which any mistake would leave equal."""

    def report(cut, tuned, gflops):
        rows = {"dense": (0.7, 8.0, 300), "pruned": (cut, gflops, 100), "fine-tuned": (tuned, gflops, 100)}
        keys = ("mAP50-95", "gflops", "parameters")
        return {"rows": {name: {**dict(zip(keys, row)), "weights": best_pt} for name, row in rows.items()}}

    results = {"1.5x": report(0.4, 0.6, 5.0), "3x": report(0.1, 0.5, 2.5)}
    rows = compare_cells(results, "mAP50-95", 32, torch.device("cpu"))["rows"]
    keys = ("model", "mAP50-95 after the cut", "mAP50-95", "gflops", "flops_ratio", "parameters")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("dense", 0.7, 0.7, 8.0, 1.0, 300),
        ("1.5x", 0.4, 0.6, 5.0, 1.6, 100),
        ("3x", 0.1, 0.5, 2.5, 3.2, 100),
    ]


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([], ValueError, r"'speed_up=\[\]' .* one target or more"),
        ([2, 3, 2], ValueError, "all different"),
        ([2, 3, 2.0], ValueError, "all different"),
        ([2, 0.5], ValueError, "'speed_up=0.5' .* greater than 1.0"),
        ([2, "fast"], TypeError, "'speed_up=fast' is of invalid type str"),
    ],
)
def test_every_target_is_checked(targets, error, message):
    with pytest.raises(error, match=message):
        get_prune_cfg({"speed_up": targets})


def test_lists_and_tuples_pass():
    assert get_prune_cfg({"speed_up": [1.5, 2]}).speed_up == [1.5, 2]
    assert get_prune_cfg({"speed_up": (1.5, 2)}).speed_up == (1.5, 2)


def test_a_compressor_wants_one_target(settings):
    with pytest.raises(ValueError, match="is a sweep.*Give a compressor one speed_up"):
        DetectionCompressor(overrides={**settings, "speed_up": [2, 3]})


def test_targets_out_of_reach_stop_before_any_training(settings, tmp_path):
    with pytest.raises(ValueError, match="'speed_up=5000.0' cannot be reached"):
        YOLO(settings["model"]).compress(**{**settings, "speed_up": [1.5, 5000]}, name="u")
    assert not list(tmp_path.glob("*-finetune"))
    with pytest.raises(FileNotFoundError, match="found no sweep to resume with name=u"):
        YOLO(settings["model"]).compress(**{**settings, "speed_up": [1.5, 5]}, name="u", resume=True)


@pytest.mark.slow
def test_sweep_from_yaml_resumes_and_shares(tiny_data, tmp_path):
    def interrupt(trainer):
        if trainer.save_dir.name == "w-3x-finetune":
            raise Interrupted

    args = {
        **FAST,
        "epochs": 1,
        "plots": True,
        "data": tiny_data,
        "project": str(tmp_path),
        "name": "w",
        "speed_up": [3, 1.5],
    }
    model = YOLO("yolov8n.yaml")
    before = model.model
    model.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        model.compress(**args)
    written = (tmp_path / "w-1.5x-finetune" / "weights" / "best.pt").stat().st_mtime_ns
    assert not (tmp_path / "w-sweep" / "sweep.json").exists()

    model = YOLO("yolov8n.yaml")
    result = model.compress(**args, resume=True)
    assert (tmp_path / "w-1.5x-finetune" / "weights" / "best.pt").stat().st_mtime_ns == written
    assert len(list(tmp_path.glob("*-base"))) == 1  # trained once
    assert [row["model"] for row in result["rows"]] == ["dense", "1.5x", "3x"]
    assert result == json.loads((tmp_path / "w-sweep" / "sweep.json").read_text())
    assert type(model.model) is type(before)

    dense = load_checkpoint(result["rows"][0]["weights"])[0]
    for row, target in zip(result["rows"][1:], (1.5, 3)):
        assert row["flops_ratio"] == pytest.approx(target, rel=0.03)
        report = json.loads((tmp_path / f"w-{target:g}x-finetune" / "report.json").read_text())
        tuned, cut = report["rows"]["fine-tuned"], report["rows"]["pruned"]
        assert (row["mAP50-95"], row["mAP50-95 after the cut"]) == (tuned["mAP50-95"], cut["mAP50-95"])
        assert row["weights"] == tuned["weights"] and row["parameters"] == tuned["parameters"]
        assert report["rows"]["dense"]["weights"] == result["rows"][0]["weights"]
        assert row["parameters"] < sum(p.numel() for p in dense.parameters())
    with open(tmp_path / "w-sweep" / "sweep.csv") as f:
        assert [row["model"] for row in csv.DictReader(f)] == ["dense", "1.5x", "3x"]
    assert cv2.imread(str(tmp_path / "w-sweep" / "sweep.png")).std() > 5


def test_resumed_sweep_keeps_to_its_own_runs(settings, tmp_path, monkeypatch):
    def compress(**keys):
        with pytest.raises(Interrupted):
            YOLO(settings["model"]).compress(**{**settings, "speed_up": [1.5, 2]}, name="v", **keys)

    monkeypatch.setattr(DetectionCompressor, "finetune", interrupt)
    compress()
    with monkeypatch.context() as patch:
        patch.setattr(DetectionCompressor, "compress", interrupt)
        compress()  # stops at its first cut
    compress(resume=True)
    runs = {target: str(tmp_path / f"v-{target}x-prune{NUMBER_MARK}2") for target in ("2", "1.5")}
    assert YAML.load(tmp_path / f"v-sweep{NUMBER_MARK}2" / "runs.yaml") == runs
    assert sorted(p.name for p in tmp_path.glob("v-sweep*")) == ["v-sweep", f"v-sweep{NUMBER_MARK}2"]


def test_a_resumed_sweep_is_of_the_model_and_folder_that_it_has_begun_with(settings, tmp_path, monkeypatch):
    def compress(model, name, **keys):
        return YOLO(model).compress(**{**settings, "model": model, "speed_up": [1.5], **keys}, name=name)

    other = str(tmp_path / "other.pt")
    torch.save({**torch.load(settings["model"], weights_only=False), "date": "another"}, other)
    with monkeypatch.context() as patch:
        patch.setattr(DetectionCompressor, "finetune", interrupt)
        for model, name in ((settings["model"], "one"), (other, "compress")):
            with pytest.raises(Interrupted):
                compress(model, name)
    before = (tmp_path / "one-sweep" / "runs.yaml").read_text()
    with pytest.raises(ValueError, match="'model=.*other.pt' is not '.*', with which '.*one-1.5x-prune' has begun"):
        compress(other, "one", resume=True, speed_up=[1.5, 2])
    assert (tmp_path / "one-sweep" / "runs.yaml").read_text() == before
    with pytest.raises(FileNotFoundError, match="or resume=path/to/its-sweep"):
        compress(settings["model"], "compress", resume=str(tmp_path / "one-1.5x-prune"))
    rows = compress(settings["model"], "compress", resume=str(tmp_path / "one-sweep"))["rows"]
    assert [row["model"] for row in rows] == ["dense", "1.5x"]
    assert Path(rows[1]["weights"]).parents[1] == tmp_path / "one-1.5x-finetune"


def test_another_sweep_of_the_same_name_takes_nothing_over(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(DetectionCompressor, "finetune", interrupt)
    for method in ("lamp", "l1"):
        with pytest.raises(Interrupted):
            YOLO(settings["model"]).compress(
                **{**settings, "speed_up": [1.5], "prune_method": method}, name="w", exist_ok=True
            )
        assert YAML.load(tmp_path / "w-1.5x-prune" / "compress.yaml")["prune_method"] == method
        pruned = load_checkpoint(tmp_path / "w-1.5x-prune" / "weights" / "prune.pt")[0]
        assert pruned.pruning["prune_method"] == method


def test_a_sweep_is_resumed_whose_cells_begin_with_what_the_first_has_trained(settings, tmp_path, monkeypatch):
    keys = {**settings, "speed_up": [1.5, 2], "dense_epochs": 1, "epochs": 1, "name": "d", "prune_method": "lamp"}
    monkeypatch.setattr(DetectionCompressor, "finetune", interrupt)
    for resume in (False, True):
        with pytest.raises(Interrupted):
            YOLO(settings["model"]).compress(**keys, resume=resume)
    models = {YAML.load(tmp_path / f"d-{target}x-prune" / "args.yaml")["model"] for target in ("1.5", "2")}
    assert len(models) == 2 and len(list(tmp_path.glob("*-dense"))) == 1


@pytest.mark.slow
def test_sparsity_training_is_shared_on_the_command_line(settings, tmp_path):
    args = {**settings, "epochs": 1, "prune_method": "slim", "sl_epochs": 1, "name": "l"}
    words = " ".join(f"{k}={v}" for k, v in args.items() if k != "speed_up")
    ultralytics.cfg.entrypoint(f"yolo compress speed_up=[1.5,2.0] {words}")
    assert [p.name for p in tmp_path.glob("*-sparsify")] == ["l-2x-sparsify"]
    assert (tmp_path / "l-sweep" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("model", "method", "layers"), also_slow([("shallow_pt", "lamp", 10)], [("best_pt", "group_taylor", 20)])
)
def test_sensitivity_map_is_shared(request, settings, tmp_path, monkeypatch, model, method, layers):
    settings = {**settings, "model": request.getfixturevalue(model), "prune_method": method}
    monkeypatch.setattr(sensitivity, "RATIOS", (0.5,))
    measured = []
    cut_copy = sensitivity.cut_copy
    monkeypatch.setattr(sensitivity, "cut_copy", lambda *args: measured.append(1) or cut_copy(*args))

    model = YOLO(settings["model"])
    model.add_callback("on_train_start", interrupt)
    with pytest.raises(Interrupted):
        model.compress(**{**settings, "speed_up": [1.5, 2], "sensitivity": True, "plots": False}, name="s")
    maps = [(tmp_path / f"s-{target}x-prune" / "sensitivity.csv").read_bytes() for target in ("2", "1.5")]
    assert maps[0] == maps[1] and len(maps[0].splitlines()) == len(measured) + 1 > layers
