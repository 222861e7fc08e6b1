# SPDX-License-Identifier: AGPL-3.0-or-later
"""Accuracy of exported files: by Ultralytics' validator, by class, and next to PyTorch picture by picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.batches import model_lent
from ultralytics.engine.compress.deploy.formats import device_of
from ultralytics.engine.compress.evaluation import TASK_METRICS, device_name
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.compress.validation import validation_arguments
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.engine.results import Results
from ultralytics.utils.metrics import batch_probiou, box_iou

SAME_OBJECT = 0.5  # IoU from which two boxes of one class are the same object
PER_CLASS = {"detect": "box", "obb": "box", "segment": "seg", "pose": "pose"}  # task: part of the metrics with an AP


def validate_file(
    file: Path, form: str, args: SimpleNamespace, device: torch.device, folder: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Validate an exported file in its own runtime.

    Args:
        file (Path): File or folder of an export.
        form (str): Ultralytics' name of its format.
        args (SimpleNamespace): Arguments of the run.
        device (torch.device): Device of the run.
        folder (Path): For what the validation saves.

    Returns:
        metrics (dict[str, float]): As the report names them.
        classes (dict[str, float]): AP50-95 of each class of the validation set; empty for tasks without.
    """
    place = {"device": device_name(device_of(form, device)), "save_dir": str(folder), "batch": 1, "quantize": None}
    result = YOLO(file, task=args.task).val(**{**validation_arguments(args), **place})
    metrics = {name: float(result.results_dict[key]) for name, key in TASK_METRICS[args.task].items()}
    if args.task not in PER_CLASS:
        return metrics, {}
    found = getattr(result, PER_CLASS[args.task])
    return metrics, {result.names[int(c)]: float(ap) for c, ap in zip(found.ap_class_index, found.ap)}


def validation_pictures(run: StockTrainer, weights: Path, most: int) -> list[str]:
    """Return pictures of the validation set, spread evenly over it.

    Args:
        run (StockTrainer): Has the data set.
        weights (Path): Checkpoint, whose stride the data set asks for.
        most (int): How many at most.
    """
    with model_lent(run, load_checkpoint(weights)[0]), warnings_only():
        dataset = run.build_dataset(run.data[run.args.split], mode="val", batch=1)
    files = [sample[0] for sample in dataset.samples] if hasattr(dataset, "samples") else dataset.im_files
    index = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int))
    return [str(files[i]) for i in index]


def predictions(
    file: Path, pictures: Sequence[str], args: SimpleNamespace, device: torch.device, form: str = "onnx"
) -> Iterator[Results]:
    """Yield what a model predicts for pictures, each letterboxed to the same square as an exported file takes.

    Args:
        file (Path): Checkpoint or export.
        pictures (Sequence[str]): Files.
        args (SimpleNamespace): Arguments of the run; 'imgsz', 'iou', 'agnostic_nms', 'max_det' and 'task' are read.
        device (torch.device): Device of the run.
        form (str): Ultralytics' name of the format of an export.
    """
    taken = {key: getattr(args, key) for key in ("imgsz", "iou", "agnostic_nms", "max_det")}
    own = {"rect": False, "save": False, "verbose": False, "device": device_name(device_of(form, device))}
    yolo = YOLO(file, task=args.task)
    for picture in pictures:
        yield yolo.predict(picture, **taken, **own)[0].cpu()


def agreement(pairs: Sequence[tuple[Results, Results]]) -> float | None:
    """Return how far two models predict the same: the share of their objects that both find, or of equal classes.

    Args:
        pairs (Sequence[tuple[Results, Results]]): Predictions for the same pictures.

    Returns:
        (float | None): From 0 to 1; None for tasks whose predictions are maps.
    """
    counts = [count_same(*pair) for pair in pairs if is_comparable(pair[0])]
    if not counts:
        return None
    same, all_of_both = (sum(column) for column in zip(*counts))
    return 2 * same / all_of_both if all_of_both else 1.0


def is_comparable(result: Results) -> bool:
    """Return True for predictions of objects or of a class."""
    return result.probs is not None or objects_of(result) is not None


def count_same(one: Results, other: Results) -> tuple[int, int]:
    """Return how many objects two predictions have in common, and how many they have in all."""
    if one.probs is not None:
        return int(one.probs.top1 == other.probs.top1), 2
    first, second = objects_of(one), objects_of(other)
    iou = batch_probiou(first.xywhr, second.xywhr) if one.obb is not None else box_iou(first.xyxy, second.xyxy)
    iou = torch.as_tensor(iou) * (first.cls[:, None] == second.cls[None])
    same = 0
    while iou.numel() and iou.max() >= SAME_OBJECT:
        row, column = divmod(int(iou.argmax()), iou.shape[1])
        iou[row], iou[:, column] = 0, 0
        same += 1
    return same, len(first) + len(second)


def objects_of(result: Results) -> Any:
    """Return the boxes of a prediction, None for a task without."""
    return result.obb if result.obb is not None else result.boxes
