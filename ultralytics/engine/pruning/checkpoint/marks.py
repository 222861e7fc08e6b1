# SPDX-License-Identifier: AGPL-3.0-or-later
"""By what a pruned model is known; this is asked of every model that Ultralytics loads, and imports nothing of it."""

from __future__ import annotations

from typing import Any

RECORD = "pruning"  # attribute of a pruned model that holds the record
# Stock Ultralytics would silently rebuild the dense model; this string replaces the YAML's first layer, so that
# rebuilding fails and says why.
NOT_FROM_YAML = "this model is pruned: install ultralytics-compress to train it, it cannot be rebuilt from YAML"


def is_pruned(model: Any) -> bool:
    """Return True for a model that came out of a pruned checkpoint."""
    return isinstance(getattr(model, RECORD, None), dict)


def has_pruned_yaml(cfg: Any) -> bool:
    """Return True for the architecture YAML that a pruned model carries, from which nothing can be built."""
    return isinstance(cfg, dict) and cfg["backbone"][0][2] == NOT_FROM_YAML
