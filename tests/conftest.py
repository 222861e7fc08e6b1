# SPDX-License-Identifier: AGPL-3.0-or-later
"""Real models and real data that the tests share."""

import functools
import inspect
import logging
import os
import random
import shutil
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

CONFIG_DIR = tempfile.mkdtemp(prefix="ultralytics-compress-tests-")
os.environ["YOLO_CONFIG_DIR"] = CONFIG_DIR  # before the first import of Ultralytics
os.environ["OMP_NUM_THREADS"] = "1"  # before that of torch: every worker of pytest-xdist would take all cores


import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from ultralytics import YOLO, __version__, cfg
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.cfg.compress.compat.quantization import HAS_PRECISIONS, HAS_QAT
from ultralytics.cfg.compress.compat.training import CARRIES_CALLBACKS
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.pruning.budget.flops import counts_attention
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import guess_model_task, yaml_model_load
from ultralytics.utils import LOGGER

pytest_plugins = ["environments"]

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
    "semantic": "SemanticSegmentationModel",
    "depth": "DepthModel",
    "rtdetr": "RTDETRDetectionModel",
    "world": "WorldModel",
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
YOLOV8 = ["yolov8n", "yolov8s", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost"]
LARGE_YOLOV8 = ["yolov8m", "yolov8l", "yolov8x"]
FAST = {"imgsz": 32, "epochs": 2, "batch": 4, "plots": False, "device": "cpu", "workers": 0, "speed_up": 2.0}


class Interrupted(Exception):
    """Stands for Ctrl+C or a power cut."""


def interrupt(*_):
    """Raise it: a callback, or what takes the place of a method."""
    raise Interrupted


def takes_whole_floats():
    """Return True if Ultralytics takes 2.0 for an int, which came after its checks of strings and None."""
    values = {"workers": 2.0}
    try:
        cfg.check_cfg(values)
    except TypeError:
        return False
    return isinstance(values["workers"], int)


def steps_without_momentum():
    """Return True if Ultralytics' SGD may go without momentum; older ones ask for Nesterov's all the same."""
    try:
        BaseTrainer.build_optimizer(BaseTrainer.__new__(BaseTrainer), nn.Linear(1, 1), "SGD", lr=0.1, momentum=0.0)
    except ValueError:
        return False
    return True


NEEDS = {  # what a test may need: this Ultralytics has it
    "distillation": HAS_DISTILLATION,
    "recovery of a training whose loss alone is not finite": HAS_DISTILLATION,  # it came at about the same time
    "images that are not in colour": "channels" in inspect.getsource(check_det_dataset),
    "SGD without momentum": steps_without_momentum(),
    "checks of strings, None and whole floats": takes_whole_floats(),
    "attention in get_flops": counts_attention(),
    "distributed workers that get callbacks": CARRIES_CALLBACKS,
    "quantization-aware training": HAS_QAT,
    "exports with 'quantize'": HAS_PRECISIONS,
    "heads to switch between branches": bool(getattr(vars(tasks.DetectionModel).get("end2end"), "fset", None)),
    "models in what it loads with safe_only": not hasattr(tasks, "SafeUnpickler"),
    "rows of classes while no box is right": ".any()" not in inspect.getsource(DetectionValidator.get_stats),
    "'pretrained=False' for a model that was loaded": "pretrained is False" in inspect.getsource(YOLO.train),
}


def needs(thing):
    """Return the mark that skips a test where this Ultralytics lacks what the test is about."""
    return pytest.mark.skipif(not NEEDS[thing], reason=f"Ultralytics {__version__} has no {thing}")


def no_argument(key):
    """Return the pattern of Ultralytics' sentence on a key that it does not know, which older ones print in colour."""
    return rf"'(\x1b\[\d+m)*{key}(\x1b\[0m)?' is not a valid YOLO argument"


def also_slow(values, slow):
    """Return parameters of which the last ones, larger ones or more of the same kind, are left out of the fast set."""
    rows = [value if isinstance(value, tuple) else (value,) for value in slow]
    return [*values, *(pytest.param(*row, marks=pytest.mark.slow) for row in rows)]


def pytest_sessionfinish():
    """Leave nothing behind outside the checkout."""
    shutil.rmtree(CONFIG_DIR, ignore_errors=True)


def load_architecture(name: str) -> dict:
    """Return the architecture of a YAML, or skip the test where this Ultralytics has no such model."""
    try:
        return yaml_model_load(name)
    except FileNotFoundError:
        pytest.skip(f"Ultralytics {__version__} has no {name}")


def check_task(task: str) -> None:
    """Skip the test where this Ultralytics has no such task."""
    if task not in cfg.TASKS:
        pytest.skip(f"Ultralytics {__version__} has no task {task}")


@functools.lru_cache(maxsize=4)  # mostly yolov8n; the largest take a gigabyte
def _built(name: str, nc: int) -> nn.Module:
    torch.manual_seed(0)
    own = next((kind for kind in ("rtdetr", "world") if kind in name), None)
    task = own or guess_model_task(load_architecture(f"{name}.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conv, "default_act", Conv.default_act)  # older releases leave there what a YAML has set
        model = getattr(tasks, MODELS[task])(f"{name}.yaml", nc=nc, verbose=False)
    model = deepcopy(model)  # whose activation is no longer the one that all models of the process share, and train
    return enliven(model, functools.partial(predict, model))


def predict(model: nn.Module, images: torch.Tensor) -> Any:
    """Run a model on images; an older RT-DETR asks for their boxes in train mode, and here there are none."""
    is_rtdetr = isinstance(model, tasks.RTDETRDetectionModel)
    return model(images, **({"batch": {"gt_groups": [0] * len(images)}} if is_rtdetr else {}))


def run_in_fp64(model: nn.Module, image: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
    """Return all outputs, also of layers that run in training only, in FP64: rounding to FP32 makes up to 1e-4."""
    model.double().train(training)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.Dropout)):
            m.eval()
    with torch.no_grad():
        output = model(image.double())
    return flatten(output[1] if isinstance(output, tuple) else output)


def build_model(name: str, nc: int = 4) -> nn.Module:
    """Return a model built from its YAML that is as alive as a trained one; it is the caller's own."""
    model = deepcopy(_built(name, nc))
    torch.manual_seed(0)  # what a test draws next does not depend on who has built the model
    return model


def kept_weights(layer: nn.Module, kept: dict[str, list[int]]) -> torch.Tensor:
    """Return the weights of the channels that a record keeps of a layer; of one group for each there are no others."""
    rows = layer.weight[kept["out"]]
    return rows if getattr(layer, "groups", 1) > 1 else rows[:, kept["in"]]


def set_up(trainer: BaseTrainer) -> None:
    """Have a trainer make its model, loaders and optimizer; older ones ask for the number of devices."""
    asks = "world_size" in inspect.signature(BaseTrainer._setup_train).parameters
    trainer._setup_train(*([0] if asks else []))


def save_dense(model: YOLO, file: Path) -> str:
    """Have Ultralytics save a model; older ones do so only if it was loaded from a checkpoint."""
    model.ckpt = model.ckpt or {}
    model.save(file)
    return str(file)


@pytest.fixture(autouse=True)
def seeded():
    """Let a test draw the same numbers, whichever ran before it in the same worker."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def runner(tmp_path) -> str:
    """A command that runs a shell as on another device: with a home of its own."""
    python3 = Path(sys.executable).with_name("python3")
    if not python3.exists():
        pytest.skip("needs a python3 beside the interpreter")
    (tmp_path / "home").mkdir()
    return f"env HOME={tmp_path / 'home'} PATH={python3.parent}:/usr/bin:/bin sh -c"


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def yolov8n() -> nn.Module:
    """A yolov8n of 4 classes; copy it before changing it."""
    return build_model("yolov8n")


@pytest.fixture(scope="session")
def tiny_data(shared) -> str:
    """A data set of 8 training and 4 validation images with coloured squares of two classes."""
    root = shared / "tiny"
    with FileLock(shared / "tiny.lock"):
        if not (root / "tiny.yaml").exists():
            draw_squares(root)
    return str(root / "tiny.yaml")


def draw_squares(root: Path) -> None:
    """Write the images, the labels and, at last, the YAML."""
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


@pytest.fixture(scope="session")
def best_pt(tiny_data, shared) -> str:
    """A dense checkpoint that Ultralytics has trained."""
    best = shared / "dense" / "weights" / "best.pt"
    with FileLock(shared / "dense.lock"):
        if not best.exists():
            keys = {k: v for k, v in FAST.items() if k != "speed_up"}
            YOLO("yolov8n.yaml").train(data=tiny_data, project=str(shared), name="dense", **keys)
    return str(best)


@pytest.fixture
def shallow_pt(tmp_path) -> str:
    """A dense checkpoint of few layers, for what is done once a layer."""
    shallow = YOLO("yolov3-tiny.yaml")
    shallow.model = build_model("yolov3-tiny", nc=2)
    return save_dense(shallow, tmp_path / "shallow.pt")


@pytest.fixture
def other_pt(tmp_path_factory) -> str:
    """A dense checkpoint of another family, in a folder of its own."""
    other = YOLO("yolov5n.yaml")
    other.model = build_model("yolov5n", nc=2)
    return save_dense(other, tmp_path_factory.mktemp("other") / "other.pt")


@pytest.fixture
def settings(best_pt, tiny_data, tmp_path):
    """Arguments of a run in a folder of its own."""
    return {**FAST, "model": best_pt, "data": tiny_data, "project": str(tmp_path)}


@pytest.fixture
def every_runtime():
    """Has a report time models in every runtime that is installed, where it is asked for."""


@pytest.fixture(autouse=True)
def one_runtime(request, monkeypatch):
    """Have reports time models in PyTorch alone: exports are a fifth of the smallest run."""
    if "every_runtime" not in request.fixturenames:
        monkeypatch.setitem(RUNTIMES, "onnx", RUNTIMES["onnx"]._replace(reported=False))


@pytest.fixture
def log(caplog):
    """Ultralytics' log, which does not propagate by itself."""
    LOGGER.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    yield caplog
    LOGGER.removeHandler(caplog.handler)
