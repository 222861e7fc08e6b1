# SPDX-License-Identifier: AGPL-3.0-or-later
"""YAML files, and the names of numbered folders."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

from ultralytics import utils
from ultralytics.utils.files import increment_path

READER = "YAML" if hasattr(utils, "YAML") else "yaml_load"  # with what Ultralytics' modules read a YAML
NUMBER_MARK = inspect.signature(increment_path).parameters["sep"].default  # between a folder's name and its number


YAML: Any = getattr(utils, "YAML", None) or SimpleNamespace(
    load=utils.yaml_load, save=utils.yaml_save, print=utils.yaml_print
)
