# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys of training, and modules of tasks, that not every Ultralytics has."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

FOLDER = {"save_dir": None}  # which older releases take in overrides if it is a key of the configuration
HAS_DISTILLATION = "distill_model" in DEFAULT_CFG_DICT
NO_TEACHER: dict[str, Any] = {"distill_model": None} if HAS_DISTILLATION else {}


def teacher_of(args: SimpleNamespace) -> Any:
    """Return the value of 'distill_model', None where Ultralytics has no such key."""
    return vars(args).get("distill_model")


def has_module(name: str) -> bool:
    """Return True if Ultralytics has a module, whose packages are imported to know it."""
    package = name.rpartition(".")[0]
    return find_spec(package) is not None and find_spec(name) is not None
