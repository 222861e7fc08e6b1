# SPDX-License-Identifier: AGPL-3.0-or-later
"""What reads a checkpoint, under its name in Ultralytics' modules."""

from __future__ import annotations

from ultralytics.nn import tasks

LOADER = "load_checkpoint" if hasattr(tasks, "load_checkpoint") else "attempt_load_one_weight"
load_checkpoint = getattr(tasks, LOADER)
