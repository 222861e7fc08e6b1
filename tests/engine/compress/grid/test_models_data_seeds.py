# SPDX-License-Identifier: AGPL-3.0-or-later
"""Grids over models, data sets and seeds: what is shared by which cells, names, the table and its picture, refusals."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
from conftest import FAST, Interrupted, interrupt

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import read_sweep
from ultralytics.cfg.compress.names import name_values
from ultralytics.engine.compress import compress, evaluation
from ultralytics.engine.compress.grid.cells import read_cells
from ultralytics.engine.compress.grid.folder import Record
from ultralytics.engine.compress.grid.job import make_grid
from ultralytics.engine.compress.grid.origins import origins_of
from ultralytics.engine.compress.grid.shared import Shared
from ultralytics.engine.compress.grid.table import compare_cells
from ultralytics.engine.pruning.report.sweep_plot import points_of
from ultralytics.models.yolo.detect.compress import DetectionCompressor


@pytest.fixture
def other_data(tiny_data, tmp_path_factory):
    """A data set of another name, with the same pictures."""
    return shutil.copy(tiny_data, tmp_path_factory.mktemp("data") / "second.yaml")


def test_cells_of_a_model_and_data_set_stay_together_and_seeds_come_last():
    lists = {"seed": [0, 1], "model": "[a.pt, b.pt]", "speed_up": [2, 3], "data": ["c.yaml"]}
    names = [cell.name for cell in reversed(read_cells(lists))]
    assert names[:4] == ["a-c-2x-seed0", "a-c-2x-seed1", "a-c-3x-seed0", "a-c-3x-seed1"]
    assert names[4:] == [name.replace("a-", "b-", 1) for name in names[:4]]


def test_files_of_one_name_are_told_apart_by_their_folders():
    best = [f"/runs/{name}/weights/best.pt" for name in ("first", "second")]
    assert name_values("model", best) == ["first", "second"]
    assert name_values("model", [*best, "/runs/first/weights/last.pt"]) == [
        *("first-weights-best", "second-weights-best", "first-weights-last")
    ]
    assert name_values("data", ["best.yaml", "sets/best.yaml"]) == ["best", "sets"]
    assert name_values("data", ["/sets/v1.0", "/sets/v1.1"]) == ["v1.0", "v1.1"]
    assert name_values("model", ["yolov8n.pt", "yolov8n.yaml"]) == ["yolov8n.pt", "yolov8n.yaml"]
    assert read_sweep({"model": "[a.pt]", "data": "b.yaml"}) == {"model": ["a.pt"]}


@pytest.mark.parametrize(
    ("args", "dense", "firsts", "leaders"),
    [
        ({"model": ["a.pt", "b.pt"], "seed": [0, 1]}, ["b-dense", "a-dense"], 2, 2),
        ({"model": "a.yaml", "seed": [0, 1]}, ["seed1-dense", "seed0-dense"], 2, 2),
        ({"model": "a.pt", "seed": [0, 1], "dense_epochs": 3}, ["seed1-dense", "seed0-dense"], 2, 2),
        ({"model": "a.pt", "seed": [0, 1], "prune_method": "slim", "sl_epochs": 1}, ["dense"], 1, 2),
        ({"model": "a.pt", "data": ["c.yaml", "d.yaml"], "seed": [0, 1]}, ["d-dense", "c-dense"], 2, 2),
        ({"model": "a.pt", "dense_epochs": [0, 3]}, ["dense_epochs3-dense", "dense_epochs0-dense"], 2, 2),
        ({"model": "a.pt", "prune_method": "slim", "sl_model": ["s.pt", "t.pt"]}, ["dense"], 1, 2),
    ],
)
def test_dense_models_are_shared_by_those_that_agree_in_what_they_depend_on(args, dense, firsts, leaders):
    args["speed_up"] = [2, 3]
    cells, shared = read_cells(args), Shared({key: value for key, value in args.items() if not isinstance(value, list)})
    assert list(dict.fromkeys(shared.dense_name(cell) for cell in cells)) == dense
    assert len(shared.firsts(cells)) == firsts and len(shared.leaders(cells)) == leaders


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "{a} {a}"}, "'model=.*one value or more, all different"),
        ({"model": []}, r"'model=\[\]' is an invalid value"),
        ({"model": "{a} b.onnx"}, "'model=b.onnx' is invalid"),
        ({"model": "{a} {other}.gone.pt"}, "'model=.*gone.pt' .*does not exist"),
        (
            {"model": "{a} yolov8n-seg.yaml"},
            "'model={a}' has task=detect and 'model=yolov8n-seg.yaml' has task=segment",
        ),
        ({"model": "{other} yolov5n.yaml"}, "leaves out 'model={a}', which the object holds"),
        ({"model": "{a} yolov8n-p6.yaml"}, "'imgsz=32' becomes 32 pixels .* and 64 with 'model=yolov8n-p6.yaml'"),
        ({"data": "{tiny} gone.yaml"}, "gone.yaml"),
        ({"seed": [0, -1]}, "'seed=-1' is an invalid value"),
        ({"seed": [0, 0]}, "'seed=.*all different"),
        ({"model": "{a} {other}", "max_drop": 1}, "A search needs one value of 'model'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_folder(settings, other_pt, tmp_path, keys, message):
    names = {"a": settings["model"], "other": other_pt, "tiny": settings["data"]}
    filled = {k: v.format(**names).split() if isinstance(v, str) else v for k, v in keys.items()}
    settings = {k: v for k, v in settings.items() if k != "speed_up" or "max_drop" not in keys}
    with pytest.raises((ValueError, FileNotFoundError), match=message.format(**names)):
        YOLO(settings["model"]).compress(**{**settings, **filled})
    assert not list(tmp_path.iterdir())


def test_paths_are_models_too_and_every_model_is_checked_before_any_folder(settings, other_pt, tmp_path):
    keys = {**settings, "speed_up": [1.5, 5000], "prune_method": "lamp"}
    del keys["model"]
    with pytest.raises(ValueError, match="'speed_up=5000.0' cannot be reached"):
        compress([Path(settings["model"]), Path(other_pt)], **keys)
    with pytest.raises(ValueError, match=r"'model=\[\]' is an invalid value"):
        compress([], **keys)
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_bring_along_different_settings_are_refused(settings, other_pt, tmp_path):
    del settings["data"]  # which the one was trained with, and the other not
    with pytest.raises(ValueError, match="has data=.*tiny.yaml and .* has data=None. Give data"):
        YOLO(settings["model"]).compress(**{**settings, "model": [settings["model"], other_pt]})
    assert not list(tmp_path.iterdir())


def test_models_and_data_sets_on_the_command_line(settings, other_pt, other_data, tmp_path, monkeypatch):
    """Each dense model is validated once on each data set, and its seeds share that."""
    validated = []
    real = evaluation.validate
    monkeypatch.setattr(evaluation, "validate", lambda *args: validated.append(1) or real(*args))
    monkeypatch.setattr(DetectionCompressor, "finetune", interrupt)
    keys = {**settings, "prune_method": "lamp", "name": "c", "seed": "[0,1]"}
    keys |= {"model": f"[{settings['model']},{other_pt}]", "data": f"[{settings['data']},{other_data}]"}
    with pytest.raises(Interrupted):
        ultralytics.cfg.entrypoint("yolo compress " + " ".join(f"{key}={value}" for key, value in keys.items()))
    runs = YAML.load(tmp_path / "c-sweep" / "runs.yaml")
    names = [f"{m}-{d}-seed{s}" for m in ("best", "other") for d in ("tiny", "second") for s in (0, 1)]
    assert runs == {name: str(tmp_path / f"c-{name}-prune") for name in reversed(names)}
    assert len(validated) == 2 * 2 + len(names)
    for name, run in runs.items():
        args = YAML.load(Path(run) / "args.yaml")
        assert f"{Path(args['model']).stem}-{Path(args['data']).stem}-seed{args['seed']}" == name


@pytest.mark.slow
def test_the_table_compares_each_model_with_its_own_dense_one_and_resumes(settings, other_pt, tmp_path):
    keys = {**settings, "model": [settings["model"], other_pt], "epochs": 1, "seed": [0, 1], "plots": True, "name": "t"}
    model = YOLO(settings["model"])
    model.add_callback("on_train_start", lambda trainer: "other" in trainer.save_dir.name and interrupt())
    with pytest.raises(Interrupted):
        model.compress(**keys)
    complete = tmp_path / "t-best-seed0-finetune" / "weights" / "best.pt"
    written = complete.stat().st_mtime_ns
    keys.pop("model")
    result = compress([settings["model"], other_pt], **keys, resume=True)
    assert complete.stat().st_mtime_ns == written
    rows = {row["model"]: row for row in result["rows"]}
    assert list(rows) == [
        *("best-dense", "best-seed0", "best-seed1", "other-dense", "other-seed0", "other-seed1"),
    ]
    assert result == json.loads((tmp_path / "t-sweep" / "sweep.json").read_text())
    for name, row in rows.items():
        family = name.split("-")[0]
        assert row["dense"] == f"{family}-dense" and Path(row["source"]).stem == family
        assert row["seed"] == (None if row["dense"] == name else int(name[-1]))
        assert row["flops_ratio"] == pytest.approx(1 if row["dense"] == name else 2, rel=0.03)
    assert rows["best-dense"]["weights"] == settings["model"] and rows["other-dense"]["weights"] == other_pt
    assert cv2.imread(str(tmp_path / "t-sweep" / "sweep.png")).std() > 5


@pytest.mark.slow
def test_every_seed_of_a_yaml_has_a_base_training_of_its_own(tiny_data, tmp_path):
    keys = {**FAST, "epochs": 1, "data": tiny_data, "project": str(tmp_path), "speed_up": [1.5, 2], "seed": [0, 1]}
    result = YOLO("yolov8n.yaml").compress(**keys, name="y")
    trained = {YAML.load(base / "args.yaml")["seed"]: str(base) for base in tmp_path.glob("*-base")}
    assert trained == {seed: str(tmp_path / f"y-2x-seed{seed}-base") for seed in (0, 1)}
    names = [f"{target}-seed{seed}" for target in ("1.5x", "2x") for seed in (0, 1)]
    rows = {row["model"]: row for row in result["rows"]}
    assert {*rows} == {"seed0-dense", "seed1-dense", *names}
    for name in names:
        report = json.loads((tmp_path / f"y-{name}-finetune" / "report.json").read_text())
        assert report["rows"]["dense"]["weights"].startswith(trained[rows[name]["seed"]])
        assert rows[rows[name]["dense"]]["weights"] == report["rows"]["dense"]["weights"]


def test_rows_of_dense_models_have_names_of_their_own_and_say_what_they_are(tmp_path):
    def report(weights):
        rows = {name: {"weights": name, "gflops": 8.0, "parameters": 1, "m": 0.5} for name in ("pruned", "fine-tuned")}
        return {"rows": {"dense": {**rows["pruned"], "weights": weights}, **rows}}

    for lists, names in (
        (
            {"model": ["a/mine.pt", "b/mine-dense.pt"]},
            ["mine-dense-dense-dense", "mine", "mine-dense-dense", "mine-dense"],
        ),
        ({"dense_epochs": [0, 5]}, ["dense_epochs0-dense", "dense_epochs0", "dense_epochs5-dense", "dense_epochs5"]),
    ):
        args = {"model": "a.pt", "task": "detect", "name": "s", **lists}
        cells = read_cells(read_sweep(args))
        grid = make_grid({}, args, {}, Record(tmp_path, {}))
        reports = {cell.name: report(f"{cell.name}.pt") for cell in reversed(cells)}
        rows = compare_cells(reports, "m", 640, origins=origins_of(grid, cells))["rows"]
        assert [row["model"] for row in rows if row["model"] in names] == names
        dense = {row["model"] for row in rows if row["model"] == row.get("dense", "dense")}
        assert len(dense) == 2 and len(rows) == 4


def test_seeds_are_one_point_of_the_picture():
    def row(name, seed, dense, gflops, value):
        return {"model": name, "seed": seed, "dense": dense, "gflops": gflops, "m": value, "m after the cut": 0.1}

    rows = [row("a-dense", None, "a-dense", 8, 0.5)]
    rows += [row(f"a-2x-seed{seed}", seed, "a-dense", 4 + seed, 0.4 + seed / 10) for seed in (0, 1)]
    dense, pruned = points_of(rows, "gflops", "m")
    assert dense.is_dense and (dense.label, dense.accuracy) == ("a-dense", 0.5)
    assert (pruned.label, pruned.cost, pruned.dense) == ("a-2x", 4.5, "a-dense")
    assert (pruned.accuracy, *pruned.spread) == pytest.approx((0.45, 0.05, 0.05))
