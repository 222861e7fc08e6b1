# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report of a run: validates its checkpoints by the task's own metrics and puts them side by side."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.quantization import is_qat
from ultralytics.engine.compress.batches import batch_to_measure
from ultralytics.engine.compress.memory import within_memory
from ultralytics.engine.compress.reading import read_model
from ultralytics.engine.compress.validation import validation_arguments
from ultralytics.engine.model import Model
from ultralytics.engine.pruning.checkpoint.qat import float_copy
from ultralytics.engine.pruning.files import read_csv
from ultralytics.engine.pruning.report.build import build_report
from ultralytics.engine.pruning.report.course import seconds_by_epoch
from ultralytics.utils import LOGGER, colorstr

TASK_METRICS = {  # task: name in the report: name in a validation's results
    "detect": {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"},
    "segment": {"mAP50": "metrics/mAP50(M)", "mAP50-95": "metrics/mAP50-95(M)"},
    "pose": {"mAP50": "metrics/mAP50(P)", "mAP50-95": "metrics/mAP50-95(P)"},
    "obb": {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"},
    "classify": {"top1": "metrics/accuracy_top1", "top5": "metrics/accuracy_top5"},
    "semantic": {"mIoU": "metrics/mIoU", "pixel acc": "metrics/pixel_acc"},
    "depth": {"delta1": "metrics/delta1", "abs rel": "metrics/abs_rel"},
}
MAIN_METRIC = {  # task: the metric that models are compared by, higher is better
    **dict.fromkeys(("detect", "segment", "pose", "obb"), "mAP50-95"),
    "classify": "top1",
    "semantic": "mIoU",
    "depth": "delta1",
}


def report_on(
    files: dict[str, Path],
    metrics: dict[str, dict[str, float]],
    args: SimpleNamespace,
    device: torch.device,
    folder: Path,
) -> dict:
    """Return the report on checkpoints, validating those whose metrics are not given.

    Args:
        files (dict[str, Path]): Name of the row to checkpoint.
        metrics (dict[str, dict[str, float]]): Known metrics of some rows.
        args (SimpleNamespace): Arguments of the run, from which the validation takes its own.
        device (torch.device): Where to validate and to measure latency.
        folder (Path): Run folder, for what the validation saves.

    Returns:
        (dict): See `ultralytics.engine.pruning.report.build.build_report`; 'max_det', with which was validated, and
            'quantised', the rows of which the accuracy is that of simulated INT8.
    """
    models: dict[str, nn.Module] = {}
    for name, file in files.items():
        if name not in metrics:
            models[name], metrics[name] = validated(name, file, args, device, folder)
    models = {name: models.get(name) or read_model(file)[0] for name, file in files.items()}
    quantised = [name for name, model in models.items() if is_qat(model)]
    models = {name: float_copy(model) for name, model in models.items()}  # the layers that FLOPs and latency are of
    curve = read_curve(folder / "results.csv", args.task, args.val)
    report = build_report(models, files, metrics, args.imgsz, device, str(args.data), MAIN_METRIC[args.task], curve)
    return {**report, "max_det": args.max_det, "quantised": quantised}


def validated(
    name: str, file: Path, args: SimpleNamespace, device: torch.device, folder: Path
) -> tuple[nn.Module, dict[str, float]]:
    """Validate a checkpoint.

    Args:
        name (str): What it is to the run, for the log.
        file (Path): Checkpoint.
        args (SimpleNamespace): Arguments of the run, from which the validation takes its own.
        device (torch.device): Where to validate.
        folder (Path): Run folder, for what the validation saves.

    Returns:
        model (nn.Module): Its model, as it is in the file.
        metrics (dict[str, float]): The task's metrics by their names in the report.
    """
    own = {**validation_arguments(args), "device": device_name(device)}
    own |= {"project": str(folder.parent), "name": folder.name, "exist_ok": True}  # that is the folder
    LOGGER.info(f"{colorstr('compress:')} validating the {name} model")
    yolo = YOLO(file)
    model = deepcopy(yolo.model)  # validations fuse theirs
    result = within_memory(partial(validate, yolo, own), batch_to_measure(args))
    return model, {metric: result[key] for metric, key in TASK_METRICS[args.task].items()}


def validate(yolo: Model, arguments: dict[str, Any], batch: int) -> dict[str, float]:
    """Return what Ultralytics' validation of a model yields, by its names."""
    return yolo.val(**arguments, batch=batch).results_dict


def read_curve(results: Path, task: str, every: bool = True) -> dict[str, Any] | None:
    """Return the accuracy in every epoch of a training.

    Args:
        results (Path): Ultralytics' results.csv.
        task (str): Task, whose main metric is read.
        every (bool): Every epoch was validated, not the last alone, before which Ultralytics writes zeros.

    Returns:
        (dict[str, Any] | None): Name of the 'metric', 'epochs', 'values', and where Ultralytics notes it 'seconds' of
            training until the end of each epoch; None if there was no training.
    """
    if not results.exists():
        return None
    metric = MAIN_METRIC[task]
    rows = read_csv(results)
    measured = rows if every else rows[-1:]
    values = [float(row[TASK_METRICS[task][metric]]) for row in measured]
    curve = {"metric": metric, "epochs": [int(row["epoch"]) for row in measured], "values": values}
    if "time" in rows[-1]:  # older releases do not write it
        curve["seconds"] = seconds_by_epoch([float(row["time"]) for row in rows])[-len(measured) :]
    return curve


def device_name(device: torch.device) -> str:
    """Return a device as Ultralytics' 'device' argument has it: '0' for the first GPU."""
    return str(device.index or 0) if device.type == "cuda" else str(device)
