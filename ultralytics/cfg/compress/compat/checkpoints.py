# SPDX-License-Identifier: AGPL-3.0-or-later
"""What reads a checkpoint, under its name in Ultralytics' modules."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.nn import tasks

LOADER = "load_checkpoint" if hasattr(tasks, "load_checkpoint") else "attempt_load_one_weight"
DAMAGED = (RuntimeError, EOFError, pickle.UnpicklingError)  # as torch answers what is no checkpoint or not a whole one


def student_of(model: nn.Module) -> nn.Module:
    """Return what a training changes: the student of a distillation, or the model."""
    return getattr(model, "student_model", model)


def without_teacher(model: nn.Module) -> nn.Module:
    """Return the model of a checkpoint; where a distillation was stopped it is a pair, whose hooks hold features."""
    student = student_of(model)
    if student is not model:
        student.pt_path = model.pt_path
        for module in student.modules():
            module._forward_hooks.clear()
    return student


def load_checkpoint(weight: str | Path, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return what Ultralytics' loader of one file does.

    Raises:
        TypeError: If the file cannot be read, which older releases answer with torch's errors.
    """
    try:
        return getattr(tasks, LOADER)(weight, **kwargs)
    except DAMAGED as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        raise TypeError(f"'{weight}' is no checkpoint, or was not written to its end") from error
