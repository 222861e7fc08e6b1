# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints: ordinary Ultralytics checkpoints whose model carries a record of what was done to it."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from ultralytics import __version__
from ultralytics.engine.pruning.files import sha256, written_whole
from ultralytics.utils import DEFAULT_CFG_DICT

RECORD = "pruning"  # attribute of a pruned model: the record, a plain dict
# A pruned model cannot be built from a YAML. Stock Ultralytics would build the dense one and train that without a word;
# this stands in for the first layer of the YAML that the model carries, so that building fails and says why.
NOT_FROM_YAML = "this model is pruned: install ultralytics-compress to train it, it cannot be rebuilt from YAML"


def save_pruned(file: str | Path, model: nn.Module, record: dict, source: str | Path, train_args: dict) -> None:
    """Write a pruned model as an ordinary Ultralytics checkpoint of FP16 weights.

    Args:
        file (str | Path): File to write, at once or not at all.
        model (nn.Module): Pruned model of stock classes.
        record (dict): What `prune_model` returned.
        source (str | Path): The dense checkpoint.
        train_args (dict): Arguments of the run; only plain values of known keys are kept.
    """
    model = deepcopy(model).cpu().half().eval()
    args = {k: v for k, v in train_args.items() if k in DEFAULT_CFG_DICT}
    yaml = getattr(model, RECORD, {}).get("yaml") or deepcopy(model.yaml)  # a model may be pruned twice
    date = datetime.now().astimezone().isoformat()
    versions = {"ultralytics": __version__, "torch": str(torch.__version__)}
    source = {"path": str(Path(source).resolve()), "sha256": sha256(source)}
    setattr(model, RECORD, {**record, "source": source, "versions": versions, "date": date, "yaml": yaml})
    model.yaml = deepcopy(yaml)
    model.yaml["backbone"][0][2] = NOT_FROM_YAML
    model.args = dict(args)
    model.criterion = None
    for p in model.parameters():
        p.requires_grad = False
    checkpoint = {
        "epoch": -1,
        "model": model,
        **dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "scaler", "train_metrics", "train_results")),
        "train_args": args,
        "date": date,
        "version": __version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    with written_whole(file) as temporary:
        torch.save(checkpoint, temporary)
