# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a worker of a Ray cluster does for a cell."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from ultralytics.engine.compress.grid.early_stop import CELL
from ultralytics.engine.compress.grid.job import Job

BEST = "best"  # key of a trial's last result: the fine-tuned weights


def cut(job: Job) -> None:
    """Run a cell up to its cut, in a worker."""
    check_visible(job)
    job.begin().compress()


def fine_tune(config: dict[str, Any], jobs: Mapping[str, Job]) -> None:
    """Run a cell, or the rest of it, in a worker; Ultralytics' own callback tells Ray Tune the epochs.

    Args:
        config (dict[str, Any]): Configuration of the trial: the name of its cell.
        jobs (Mapping[str, Job]): Name of each cell to its run.
    """
    job = jobs[config[CELL]]
    check_visible(job)
    run = job.begin()
    run.compress()
    tune.report({BEST: str(run.finetune())})


def check_visible(job: Job) -> None:
    """Refuse a node that does not see the folder in which the runs of a grid are.

    Raises:
        FileNotFoundError: With what to do.
    """
    project = Path(job.place).parent
    if not project.is_dir():
        raise FileNotFoundError(
            f"'project={project}' does not exist on node {platform.node()}. All nodes of the cluster must see it: put "
            "it on a file system that they share."
        )
