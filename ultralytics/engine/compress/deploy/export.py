# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exports by Ultralytics' exporter, quantised from the run's own training pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.quantization import FRACTION_COUNTS, is_qat
from ultralytics.engine.compress.deploy.formats import device_of, known_formats
from ultralytics.engine.compress.deploy.quantisers import QUANTISERS
from ultralytics.engine.compress.deploy.relief import Relief
from ultralytics.engine.compress.deploy.targets import INT8, Target
from ultralytics.engine.compress.evaluation import device_name
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.checkpoint.qat import float_copy

CALIBRATION = 300  # training pictures from which ranges are taken, as many as Ultralytics recommends
TRAINED_RANGES = ("engine",)  # formats that run fast with the ranges of a quantization-aware training


def export(
    weights: Path,
    name: str,
    target: Target,
    args: SimpleNamespace,
    device: torch.device,
    folder: Path,
    relief: Relief,
) -> tuple[Path, str]:
    """Export a checkpoint.

    Args:
        weights (Path): Dense or pruned checkpoint.
        name (str): Name for the file.
        target (Target): What it is exported to.
        args (SimpleNamespace): Arguments of the run; 'data' and 'imgsz' are read.
        device (torch.device): Device of the run.
        folder (Path): Where the file goes; what is in it is removed.
        relief (Relief): Says which layers of an INT8 file stay float, if the format is one of `QUANTISERS`.

    Returns:
        file (Path): The file, or the folder, of the export.
        quantised (str): Where the INT8 ranges come from: 'calibrated', 'trained', 'recalibrated' after a training
            with whose ranges the format is slow or can do nothing, or empty for a file in float.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = load_checkpoint(weights)[0]
    qat = is_qat(model)
    trained = qat and target.quantize == INT8 and target.format in TRAINED_RANGES
    if not trained:
        model = float_copy(model)
    model.task, model.pt_path = args.task, str(folder / f"{name}.pt")  # beside which the exporter puts its file
    threads = torch.get_num_threads()
    try:
        file = _export(model, target, _settings(target, args, device), trained, relief)
    finally:
        torch.set_num_threads(threads)  # the exporter sets Ultralytics' own number
    return file, "" if not target.is_int8 else "trained" if trained else "recalibrated" if qat else "calibrated"


def _settings(target: Target, args: SimpleNamespace, device: torch.device) -> dict[str, Any]:
    """Return the arguments of an export."""
    own = {"imgsz": args.imgsz, "batch": 1, "device": device_name(device_of(target.format, device)), "verbose": False}
    if target.is_int8 and "data" in known_formats()[target.format].arguments:
        # a list of classes, each in its folder, is not cut off after the first ones
        count = CALIBRATION if FRACTION_COUNTS and args.task != "classify" else 1.0
        own |= {"data": args.data, "split": "train", "fraction": count}
    return {"format": target.format, "quantize": target.quantize, **own, **target.arguments}


def _export(model: nn.Module, target: Target, settings: dict[str, Any], trained: bool, relief: Relief) -> Path:
    """Run the exporter, in the hands of what knows the format's quantiser, if it is to quantise."""
    exporter = Exporter(overrides=settings)
    if target.quantize == INT8 and not trained and target.format in QUANTISERS:
        return QUANTISERS[target.format](exporter, model, relief)
    return Path(exporter(model=model))
