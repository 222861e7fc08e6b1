# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints that several steps of a run need, above all the dense model, are read once, and in stock form."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.modules import forget_loss
from ultralytics.cfg.compress.keys import refusing
from ultralytics.engine.pruning.checkpoint.finite import half_within_range
from ultralytics.engine.pruning.files import written_whole
from ultralytics.nn.conversion.stock_form import is_open_set, stock_form


class Reading(NamedTuple):
    """What a file holds.

    Attributes:
        model (nn.Module): Model in stock form.
        checkpoint (dict[str, Any]): The checkpoint as it is in the file.
        note (str): What has been converted, see `stock_form`; empty for a model that is in stock form in the file.
        open_set (bool): The file's model knows its classes by embeddings of their names.
    """

    model: nn.Module
    checkpoint: dict[str, Any]
    note: str
    open_set: bool


def read_model(file: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a checkpoint as Ultralytics' `load_checkpoint` does, without reading the same file again.

    Args:
        file (str | Path): Checkpoint; Ultralytics looks in its weights folder too, and downloads what it publishes.

    Returns:
        model (nn.Module): A copy in stock form, which is the caller's own.
        checkpoint (dict[str, Any]): The checkpoint, to read.

    Raises:
        ValueError: If the model has no stock form.
    """
    model, checkpoint, *_ = read(file)
    return deepcopy(model), checkpoint


def read(file: str | Path) -> Reading:
    """Return what a checkpoint holds, to read."""
    if not Path(file).is_file():
        return _load(file)
    written = Path(file).stat()
    return _read(str(file), written.st_mtime_ns, written.st_size)


@lru_cache(maxsize=3)  # the dense, the sparse and the pruned model
def _read(file: str, modified: int, size: int) -> Reading:
    """Read a file, or remember it as long as it is the same."""
    return _load(file)


def _load(file: str | Path) -> Reading:
    """Read a file."""
    model, checkpoint = load_checkpoint(file)
    if getattr(model, "clip_model", None) is not None:
        model.clip_model = None  # of a World model: the text encoder, which its classes need no more
    with refusing():  # what it says of the model is its owner's to mend
        form, note = stock_form(model)
    return Reading(form, checkpoint, note, is_open_set(model))


def save_converted(file: Path, reading: Reading) -> None:
    """Write a model that was converted as a checkpoint that holds it in stock form, with FP16 weights.

    Args:
        file (Path): File to write, at once or not at all.
        reading (Reading): What `read` returned.
    """
    model = half_within_range(deepcopy(reading.model).cpu()).requires_grad_(False)
    forget_loss(model)
    others = dict.fromkeys(("ema", "optimizer", "scaler"))
    with written_whole(file) as temporary:
        torch.save({**reading.checkpoint, **others, "model": model}, temporary)


def forget_models() -> None:
    """Free the memory of the models that were read last."""
    _read.cache_clear()
