# SPDX-License-Identifier: AGPL-3.0-or-later
"""The dense model as the teacher of a fine-tuning: where it is, and for how long it teaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import nn

from ultralytics import __version__
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.engine.compress.convergence import RISING, gain_of
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.compress.runs import moved
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.files import sha256
from ultralytics.nn.modules.head import Detect
from ultralytics.utils import LOGGER

FALL = 0.5  # share of the epochs, after which a teacher that could still learn teaches no more


class Teaching(NamedTuple):
    """How a teacher teaches.

    Attributes:
        falls (bool): Its weight falls to nothing, instead of staying what 'dis' says.
        reason (str): Why, in one line.
    """

    falls: bool
    reason: str

    def share(self, progress: float) -> float:
        """Return the share of 'dis' that holds.

        Args:
            progress (float): Share of the training that is over, 0 to 1.
        """
        return max(1 - progress / FALL, 0.0) if self.falls else 1.0


def teaching_of(teacher: str | Path, pruned: nn.Module, task: str, epochs: int) -> Teaching:
    """Decide how a teacher teaches: the dense model by its own training's curve, another as it was chosen.

    A dense model that was still rising when its training ended can be passed by its student, which it holds back.

    Args:
        teacher (str | Path): Its checkpoint.
        pruned (nn.Module): Its student.
        task (str): Task of both.
        epochs (int): Epochs of the fine-tuning.
    """
    if not is_dense_model(teacher, pruned):
        return Teaching(False, f"'{teacher}' teaches throughout, as it was chosen")
    gain = gain_of(teacher, task, epochs)
    if gain is None:
        return Teaching(False, f"'{teacher}' teaches throughout: it has no curve of its training that says more")
    if gain < RISING:
        return Teaching(False, f"'{teacher}' teaches throughout: it had converged when its training ended")
    return Teaching(
        True,
        f"'{teacher}' was still rising when its training ended, by some {100 * gain:.1f} points of {MAIN_METRIC[task]} "
        f"in {epochs} epochs more: its teaching falls to nothing by epoch {round(FALL * epochs)}. "
        f"'dense_epochs={epochs}' with yolo compress trains it on before it is pruned.",
    )


def is_dense_model(teacher: str | Path, pruned: nn.Module) -> bool:
    """Return True if a teacher is the checkpoint that a model was cut from, in its own place, not a copy."""
    source = Record.of(pruned).source
    return bool(source) and Path(source["path"]).name == Path(teacher).name and is_source(Path(teacher), source)


def is_source(file: Path, source: Mapping[str, str]) -> bool:
    """Return True if a file is the checkpoint that a record's source describes."""
    return file.is_file() and sha256(file) == source["sha256"]


def find_teacher(pruned: nn.Module) -> str | None:
    """Return the checkpoint that a model was cut from, to distil it into that model while fine-tuning.

    Args:
        pruned (nn.Module): Pruned model.

    Returns:
        (str | None): Its path; None if the model has a head whose features Ultralytics cannot distil, or the file is
            gone or another one by now; which is logged.
    """
    if not HAS_DISTILLATION:
        LOGGER.info(f"no distillation: Ultralytics {__version__} cannot distil; newer ones can")
        return None
    head = pruned.model[-1]
    if not isinstance(head, Detect):
        name = type(head).__name__
        LOGGER.info(f"no distillation: Ultralytics distils the features of Detect heads alone, not of {name}")
        return None
    source = Record.of(pruned).source
    if not source:
        LOGGER.warning(
            "no distillation: the model was not cut from a checkpoint. Pass 'distill_model=path/to/dense.pt', or "
            "'distill=False'."
        )
        return None
    file = Path(source["path"])
    if getattr(pruned, "pt_path", None):
        file = moved(file, Path(pruned.pt_path).resolve().parents[1])
    if not is_source(file, source):
        LOGGER.warning(
            f"no distillation: '{source['path']}', from which the model was pruned, is gone or has changed. "
            "Pass 'distill_model=path/to/dense.pt', or 'distill=False'."
        )
        return None
    return str(file)
