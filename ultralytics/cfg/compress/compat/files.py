# SPDX-License-Identifier: AGPL-3.0-or-later
"""YAML files, and the names of numbered folders."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from ultralytics import cfg, utils
from ultralytics.utils import files
from ultralytics.utils.files import increment_path

READER = "YAML" if hasattr(utils, "YAML") else "yaml_load"  # with what Ultralytics' modules read a YAML
NUMBER_MARK = inspect.signature(increment_path).parameters["sep"].default  # between a folder's name and its number


def get_save_dir(args: SimpleNamespace) -> Path:
    """Return the folder that Ultralytics' rule gives a run, without making it, as some releases do."""
    files.increment_path = lambda path, exist_ok=False, mkdir=False: increment_path(path, exist_ok)
    try:
        return Path(cfg.get_save_dir(args)).resolve()
    finally:
        files.increment_path = increment_path


YAML: Any = getattr(utils, "YAML", None) or SimpleNamespace(
    load=utils.yaml_load, save=utils.yaml_save, print=utils.yaml_print
)


def load_mapping(file: str | Path) -> dict[str, Any]:
    """Return what a YAML file holds.

    Raises:
        ValueError: If it is no YAML or holds no mapping, which older releases do not check.
    """
    try:
        found = YAML.load(file)
    except (AttributeError, yaml.YAMLError) as error:  # they ask the list, or whatever it is, for its values
        raise ValueError(f"{file} is not a valid YAML mapping") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is not a valid YAML mapping")
    return found
