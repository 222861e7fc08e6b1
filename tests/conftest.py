# SPDX-License-Identifier: AGPL-3.0-or-later
"""Real models and real data that the tests share."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

CONFIG_DIR = tempfile.mkdtemp(prefix="ultralytics-compress-tests-")
os.environ["YOLO_CONFIG_DIR"] = CONFIG_DIR  # before the first import of Ultralytics

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ultralytics import YOLO
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.nn.tasks import (
    ClassificationModel,
    DepthModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    RTDETRDetectionModel,
    SegmentationModel,
    SemanticSegmentationModel,
    guess_model_task,
    yaml_model_load,
)
from ultralytics.utils import LOGGER, YAML

pytest_plugins = ["environments"]

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "detect": DetectionModel,
    "segment": SegmentationModel,
    "pose": PoseModel,
    "obb": OBBModel,
    "classify": ClassificationModel,
    "semantic": SemanticSegmentationModel,
    "depth": DepthModel,
    "rtdetr": RTDETRDetectionModel,
}
FAMILIES = [  # the smallest of each family of detection models, and the smaller one of the two with ADown
    "yolov3-tiny",
    "yolov5n",
    "yolov6n",
    "yolov8n",
    "yolov8n-ghost",
    "yolov9t",
    "yolov9c",
    "yolov10n",
    "yolo11n",
    "yolo12n",
    "yolo26n",
]
TASKS = [
    "yolo26n-seg",
    "yolo26n-pose",
    "yolo26n-obb",
    "yolo26n-cls",
    "yolo26n-sem",
    "yolo26n-depth",
    "yolo11n-seg",
    "yolo11n-pose",
    "yolo11n-obb",
    "yolo11n-cls",
    "yolo12n-seg",
    "yolov8n-seg",
    "yolov8n-pose",
    "yolov8n-obb",
    "yolov8n-cls",
]
YOLOV8 = ["yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost"]
FAST = {"imgsz": 32, "epochs": 2, "batch": 4, "plots": False, "device": "cpu", "workers": 0, "speed_up": 2.0}


class Interrupted(Exception):
    """Stands for Ctrl+C or a power cut."""


def interrupt(*_):
    """Raise it: a callback, or what takes the place of a method."""
    raise Interrupted


def pytest_sessionfinish():
    """Leave nothing behind outside the checkout."""
    shutil.rmtree(CONFIG_DIR, ignore_errors=True)


def build_model(name: str, nc: int = 4) -> nn.Module:
    """Return a model built from its YAML that is as alive as a trained one."""
    torch.manual_seed(0)
    task = "rtdetr" if "rtdetr" in name else guess_model_task(yaml_model_load(f"{name}.yaml"))
    model = MODELS[task](f"{name}.yaml", nc=nc, verbose=False)
    return enliven(model, model.predict)


@pytest.fixture(scope="session")
def yolov8n() -> nn.Module:
    """A yolov8n of 4 classes; copy it before changing it."""
    return build_model("yolov8n")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> str:
    """A data set of 8 training and 4 validation images with coloured squares of two classes."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            x, y = rng.integers(4, 40, 2)
            image[y : y + 20, x : x + 20] = (0, 200, 250) if i % 2 else (250, 60, 0)
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), image)
            label = f"{i % 2} {(x + 10) / 64} {(y + 10) / 64} {20 / 64} {20 / 64}\n"
            (root / "labels" / split / f"{i}.txt").write_text(label)
    data = {"path": str(root), "train": "images/train", "val": "images/val", "names": {0: "blue", 1: "yellow"}}
    YAML.save(root / "tiny.yaml", data)
    return str(root / "tiny.yaml")


@pytest.fixture(scope="session")
def best_pt(tiny_data, tmp_path_factory):
    """A dense checkpoint that Ultralytics has trained."""
    project = tmp_path_factory.mktemp("dense")
    model = YOLO("yolov8n.yaml")
    model.train(
        data=tiny_data, project=str(project), name="dense", **{k: v for k, v in FAST.items() if k != "speed_up"}
    )
    return str(project / "dense" / "weights" / "best.pt")


@pytest.fixture
def settings(best_pt, tiny_data, tmp_path):
    """Arguments of a run in a folder of its own."""
    return {**FAST, "model": best_pt, "data": tiny_data, "project": str(tmp_path)}


@pytest.fixture
def log(caplog):
    """Ultralytics' log, which does not propagate by itself."""
    LOGGER.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    yield caplog
    LOGGER.removeHandler(caplog.handler)
