# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints that several steps of a run need, above all the dense model, are read once."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint


def read_model(file: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a checkpoint as Ultralytics' `load_checkpoint` does, without reading the same file again.

    Args:
        file (str | Path): Checkpoint; Ultralytics looks in its weights folder too, and downloads what it publishes.

    Returns:
        model (nn.Module): A copy, which is the caller's own.
        checkpoint (dict[str, Any]): The checkpoint, to read.
    """
    if not Path(file).is_file():
        return load_checkpoint(file)
    written = Path(file).stat()
    model, checkpoint = _read(str(file), written.st_mtime_ns, written.st_size)
    return deepcopy(model), checkpoint


@lru_cache(maxsize=3)  # the dense, the sparse and the pruned model
def _read(file: str, modified: int, size: int) -> tuple[nn.Module, dict[str, Any]]:
    """Read a file, or remember it as long as it is the same."""
    return load_checkpoint(file)


def forget_models() -> None:
    """Free the memory of the models that were read last."""
    _read.cache_clear()
