# SPDX-License-Identifier: AGPL-3.0-or-later
"""The shapes data sets of every task draw themselves as Ultralytics reads them, and a model trains on them."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import MODELS, also_slow, check_task, load_architecture
from test_shapes import file_hashes

from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.data import ClassificationDataset, build_yolo_dataset
from ultralytics.data import utils as data_utils
from ultralytics.data.shapes import dataset
from ultralytics.data.shapes.labels import SEEN, keypoints, visible_polygon
from ultralytics.data.shapes.look import Look
from ultralytics.data.shapes.outline import fill_polygon
from ultralytics.data.shapes.scene import SHAPE_DISTANCE, draw_scene
from ultralytics.data.shapes.texture import SIZE
from ultralytics.data.utils import check_cls_dataset, check_det_dataset, load_dataset_cache_file
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn import tasks
from ultralytics.utils.ops import xyxyxyxy2xywhr

DATASETS = Path(__file__).parents[3] / "ultralytics/cfg/datasets"
TASKS = {
    "segment": ("shapes-seg", "yolo26n-seg.yaml"),
    "pose": ("shapes-pose", "yolo26n-pose.yaml"),
    "obb": ("shapes-obb", "yolo26n-obb.yaml"),
    "semantic": ("shapes-sem", "yolo26n-sem.yaml"),
    "depth": ("shapes-depth", "yolo26n-depth.yaml"),
    "classify": ("shapes-cls", "yolo26n-cls.yaml"),
}
TEXT_TASKS = ["segment", "pose", "obb"]
KINDS = ["circle", "triangle", "square", "star"]
# Batches of 5, and of 10 to validate with: Ultralytics 8.4.0 fails on a last one of two with a yolo26n-seg.
FAST = {"imgsz": 64, "epochs": 1, "batch": 5, "fraction": 0.08, "plots": False, "workers": 0, "cache": False}


def draw(task, folder):
    """Have Ultralytics draw a task's set below this folder; return its YAML there and its data dictionary."""
    name = TASKS[task][0]
    text = (DATASETS / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"\npath: {name} " in text
    copy = folder / f"{name}.yaml"
    copy.write_text(text.replace(f"\npath: {name} ", f"\npath: {(folder / name).as_posix()} "), encoding="utf-8")
    return copy, check_det_dataset(copy)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Draws the set of a task when it is first asked for, once for this module."""
    drawn = {}

    def get(task):
        if task not in drawn:
            drawn[task] = draw(task, tmp_path_factory.mktemp(task))
        return drawn[task]

    return get


def read_lines(data, split):
    """One list of (class, values) for each picture of a split."""
    files = sorted((data["path"] / "labels" / split).glob("*.txt"))
    assert len(files) == dataset.SPLITS[split]
    rows = [[np.array(line.split(), float) for line in file.read_text().splitlines()] for file in files]
    return [[(int(row[0]), row[1:]) for row in picture] for picture in rows]


def shapes_of(look, pictures=40):
    """Every shape of some pictures."""
    scenes = [draw_scene(np.random.default_rng(i), i, KINDS, look) for i in range(pictures)]
    shapes = [shape for scene in scenes for shape in scene.shapes]
    assert len(shapes) >= pictures
    return shapes


@pytest.mark.parametrize("task", also_slow(["segment", "semantic"], ["pose", "obb", "depth"]))
def test_ultralytics_reads_every_picture_and_label(sets, task):
    """Its own data set class finds a sound label for each picture."""
    check_task(task)
    _, data = sets(task)
    for split, count in dataset.SPLITS.items():
        cfg = get_cfg(overrides={"task": task, "imgsz": SIZE})
        samples = build_yolo_dataset(cfg, data[split], batch=4, data=data, mode="val")
        if hasattr(samples, "get_label_files"):
            files = samples.get_label_files()
        else:
            files = samples.mask_files if task == "semantic" else samples.label_files
        cache = load_dataset_cache_file(Path(files[0]).parent.with_suffix(".cache"))
        assert len(samples) == count
        assert cache["results"] in {(count, 0, 0, 0, count), (count, 0, 0, count)}  # older: masks are never empty
        assert not cache["msgs"]
        assert samples[0]["img"].shape == (3, SIZE, SIZE)


def test_ultralytics_reads_every_class_folder(sets):
    """Folders, classes and pictures are what the classification data set expects, each class as often as another."""
    _, data = sets("classify")
    checked = check_cls_dataset(data["path"])
    assert checked["names"] == data["names"]
    for split, count in dataset.SPLITS.items():
        samples = ClassificationDataset(checked[split], get_cfg(overrides={"imgsz": 64}), prefix=split)
        classes = np.bincount([label for _, label, *_ in samples.samples])
        assert classes.sum() == count and len(classes) == len(KINDS)
        assert np.ptp(classes) <= 1


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_classes_are_balanced(sets, task):
    """No class makes up less than half or more than twice its share."""
    counts = np.bincount([cls for picture in read_lines(sets(task)[1], "train") for cls, _ in picture])
    assert len(counts) == len(KINDS)
    assert (counts > counts.mean() / 2).all() and (counts < counts.mean() * 2).all()


@pytest.mark.parametrize("task", TASKS)
def test_drawing_again_gives_the_same_files(sets, task, tmp_path, monkeypatch):
    """A second drawing agrees with the first in every byte."""
    _, whole = sets(task)
    monkeypatch.setattr(dataset, "SPLITS", {"train": 4, "val": 2})
    _, part = draw(task, tmp_path)
    again, first = (file_hashes(data["path"], "*.*") for data in (part, whole))
    assert len(again) == (6 if task == "classify" else 12)
    assert again.items() <= first.items()


def test_a_polygon_covers_the_part_that_can_be_seen():
    """Filled again it gives the mask, also where another shape cuts the mask apart or makes a hole in it."""
    for shape in shapes_of(Look()):
        filled = fill_polygon(visible_polygon(shape))
        assert (filled & shape.visible).sum() >= 0.97 * (filled | shape.visible).sum()

    visible = np.zeros((SIZE, SIZE), bool)
    visible[20:100, 20:100] = True
    visible[40:60, 40:60] = visible[:, 80:84] = False
    filled = fill_polygon(visible_polygon(SimpleNamespace(visible=visible)))
    assert filled[visible].all()
    assert (filled & ~visible).sum() <= 8  # a bridge between the pieces, 1 pixel wide, and the corners of the hole


def test_keypoints_lie_on_the_shape_and_turn_with_it():
    """The centre lies inside, the rest on the outline; seen towards the tip, left is left in every picture."""
    shapes = shapes_of(Look(dotted=True))
    for shape in shapes:
        points = keypoints(shape)
        centre, tip, tail, left, right = points[:, :2] * SIZE - 0.5
        columns, rows = np.round([centre, tip, tail, left, right]).astype(int).T
        assert shape.whole[rows, columns].all()
        assert ((points[:, 2] == SEEN) == shape.visible[rows, columns]).all()
        assert abs(np.linalg.norm(tip - centre) - shape.radius) < 2
        (along_x, along_y), (across_x, across_y) = tip - tail, right - left
        assert along_x * across_y - along_y * across_x > 0  # y points down: right is a right turn from the tip
    assert any((keypoints(shape)[:, 2] != SEEN).any() for shape in shapes)


def test_a_mirrored_picture_swaps_left_and_right(sets):
    """`flip_idx` names each keypoint's mirror image."""
    _, data = sets("pose")
    names = data["kpt_names"][0]
    mirrored = {"left": "right", "right": "left"}
    assert [names[i] for i in data["flip_idx"]] == [mirrored.get(name, name) for name in names]
    assert data["kpt_shape"] == [len(names), 3]


def test_rotated_boxes_are_rectangles_around_the_shape(sets):
    """Ultralytics' angle and size describe the corners, and the box fits what it surrounds."""
    for picture in read_lines(sets("obb")[1], "val"):
        for _, values in picture:
            corners = values.reshape(4, 2) * SIZE
            sides = np.diff(corners, axis=0)
            lengths = np.linalg.norm(sides[:2], axis=1)
            assert abs(sides[0] @ sides[1]) < 1e-4 * lengths.prod()
            _, _, width, height, _ = xyxyxyxy2xywhr(corners.reshape(1, 8).astype(np.float32))[0]
            assert np.allclose(sorted([width, height]), sorted(lengths), atol=0.05)
    for shape in shapes_of(Look(stretch=(1.5, 3.0))):
        box = fill_polygon(shape.rotated_box())
        assert (shape.visible & ~box).sum() <= 0.02 * shape.visible.sum()


def test_semantic_classes_are_those_of_the_polygons(sets):
    """Both sets show the same pictures, and every pixel inside a polygon has its class in the mask."""
    (_, semantic), (_, segment) = sets("semantic"), sets("segment")
    assert list(semantic["names"].values()) == ["background", *segment["names"].values()]
    assert file_hashes(semantic["path"] / "images", "*.png") == file_hashes(segment["path"] / "images", "*.png")
    for i, picture in enumerate(read_lines(segment, "val")):
        mask = cv2.imread(str(semantic["path"] / f"masks/val/{i:03d}.png"), cv2.IMREAD_UNCHANGED)
        drawn = np.zeros_like(mask)
        for cls, values in picture:  # in drawing order
            drawn[fill_polygon(values.reshape(-1, 2) * SIZE - 0.5)] = 1 + cls
        assert (drawn == mask).mean() > 0.99


def test_depth_is_metric_and_nearer_shapes_come_first(sets):
    """Every pixel has a distance in metres; each shape's is that of its size, and it hides what is farther."""
    check_task("depth")
    _, data = sets("depth")
    files = sorted((data["path"] / "depth/val").glob("*.png"))
    assert len(files) == dataset.SPLITS["val"]
    for file in files:
        depth = data_utils.load_depth(file, data["depth_scale"])
        assert depth.min() > 0.9 and depth.max() < 10
        assert depth[-1].max() < depth[0].max()
    for i in range(10):
        scene = draw_scene(np.random.default_rng(i), i, KINDS, Look(deep=True))
        for shape in scene.shapes:
            nearest = scene.depth[shape.whole]
            assert (nearest <= SHAPE_DISTANCE / shape.radius + 1e-9).all()


@pytest.mark.parametrize("task", also_slow(["segment", "classify"], ["pose", "obb", "semantic", "depth"]))
def test_a_pruned_model_of_other_classes_trains_on_it(sets, task, tmp_path):
    """One epoch runs to its end, validation has its metrics, and the architecture is kept but for the classes."""
    load_architecture(TASKS[task][1])
    yaml, data = sets(task)
    keypoints = {"data_kpt_shape": data["kpt_shape"]} if task == "pose" else {}
    build = getattr(tasks, MODELS[task])
    dense = build(TASKS[task][1], **({} if task == "depth" else {"nc": 7}), **keypoints, verbose=False)
    torch.save({"model": dense}, tmp_path / "dense.pt")
    pruned, record = prune_model(dense, Budget(1.5), prune_method="lamp")
    save_pruned(tmp_path / "prune.pt", pruned, record, {"task": task})
    model = YOLO(tmp_path / "prune.pt")
    metrics = model.train(data=str(yaml), project=str(tmp_path), device="cpu", **FAST)
    assert model.task == task
    assert np.isfinite(list(metrics.results_dict.values())).all()
    assert model.names == data["names"]
    trained, resized = load_checkpoint(model.trainer.best)[0].state_dict(), set()
    for name, before in load_checkpoint(tmp_path / "prune.pt")[0].state_dict().items():
        if before.shape != trained[name].shape:
            assert trained[name].shape == (len(data["names"]), *before.shape[1:]) and len(before) == 7, name
            resized.add(name)
    assert bool(resized) == (task != "depth")


@pytest.mark.parametrize("task", also_slow(["classify"], ["semantic"]))
def test_growing_reg_chooses_units_by_the_loss_of_the_task(sets, task, tmp_path):
    """Trainers of some tasks give their model no arguments, which its loss reads."""
    load_architecture(TASKS[task][1])
    yaml, _ = sets(task)
    keys = {"project": str(tmp_path), "name": "g", "device": "cpu", "prune_method": "growing_reg", "sl_epochs": 1}
    YOLO(TASKS[task][1]).compress(data=str(yaml), finetune=False, speed_up=1.5, **keys, **FAST)
    doomed = torch.load(tmp_path / "g-sparsify" / "doomed.pt")
    assert 0 < doomed.sum() < len(doomed)
    assert (tmp_path / "g-prune" / "weights" / "prune.pt").is_file()
