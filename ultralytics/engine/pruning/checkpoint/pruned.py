# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints: ordinary Ultralytics checkpoints whose model carries a record of what was done to it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics import __version__
from ultralytics.cfg.compress.compat.modules import forget_loss
from ultralytics.engine.pruning.checkpoint.finite import check_finite, half_within_range
from ultralytics.engine.pruning.checkpoint.marks import NOT_FROM_YAML, RECORD
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.files import written_whole
from ultralytics.nn.tasks import WorldModel
from ultralytics.utils import DEFAULT_CFG_DICT

NO_FILE = "pruned YOLO-World (which only ultralytics-compress can train).yaml"  # World trainers build from the file


def save_pruned(
    file: str | Path, model: nn.Module, record: Record, train_args: Mapping[str, Any] | None = None
) -> None:
    """Write a pruned model as an ordinary Ultralytics checkpoint of FP16 weights.

    Args:
        file (str | Path): File to write, at once or not at all.
        model (nn.Module): Pruned model of stock classes, as `prune_model` returned it.
        record (Record): What `prune_model` returned.
        train_args (Mapping[str, Any], optional): Arguments of the run, by default those that the dense model carries;
            only keys of stock Ultralytics are kept.

    Raises:
        ValueError: If the model has weights that are not finite.
    """
    check_finite(model, "the pruned model")
    model = half_within_range(deepcopy(model).cpu().eval())
    given = dict(train_args if train_args is not None else getattr(model, "args", {}))
    args = {k: v for k, v in given.items() if k in DEFAULT_CFG_DICT}
    setattr(model, RECORD, record.to_dict())
    model.yaml = deepcopy(record.yaml)
    model.yaml["backbone"][0][2] = NOT_FROM_YAML
    if isinstance(model, WorldModel):
        model.yaml["yaml_file"] = NO_FILE
    model.args = dict(args)
    forget_loss(model)
    for p in model.parameters():
        p.requires_grad = False
    checkpoint = {
        "epoch": -1,
        "model": model,
        **dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "scaler", "train_metrics", "train_results")),
        "train_args": args,
        "date": record.date,
        "version": __version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    with written_whole(file) as temporary:
        torch.save(checkpoint, temporary)
