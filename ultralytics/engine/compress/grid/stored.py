# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs on nodes that share no file system: in a folder of the node, which Ray Tune's storage keeps and carries.

A run reports its folders as the checkpoint of its trial after every epoch and stage. Whoever goes on with it, also on
another node, begins with what the storage has, and so does who needs the dense model that it has made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ray import tune

from ultralytics.engine.compress.grid.early_stop import CELL
from ultralytics.engine.compress.grid.job import Grid, Job
from ultralytics.engine.compress.grid.worker import BEST

PREFIX = "compress-"  # of temporary folders
KEPT = "kept"  # key of a result that only brings a checkpoint


class Order(NamedTuple):
    """A run and what a worker needs for it from Ray's storage.

    Attributes:
        job (Job): The run, with folders as the driver has them.
        own (tune.Checkpoint, optional): Its folders, if another trial has begun it.
        others (Sequence[tune.Checkpoint]): The folders of runs that it takes over from.
        finish (bool): Fine-tune, not just cut.
        keeps_epochs (bool): Put its folders into the storage after each epoch, not just after each stage.
    """

    job: Job
    own: tune.Checkpoint | None
    others: Sequence[tune.Checkpoint]
    finish: bool
    keeps_epochs: bool


def run_order(config: dict[str, Any], orders: Mapping[str, Order]) -> None:
    """Run a cell, or the rest of it, in a worker and in a temporary folder.

    Args:
        config (dict[str, Any]): Configuration of the trial: the name of its cell.
        orders (Mapping[str, Order]): Name of each cell to its order.
    """
    order = orders[config[CELL]]
    project = Path(order.job.place).parent
    with TemporaryDirectory(prefix=PREFIX) as temporary:
        work = Path(temporary)
        for checkpoint in order.others:
            checkpoint.to_directory(work)
        brought = {folder.name for folder in work.iterdir()}
        if begun := tune.get_checkpoint() or order.own:
            begun.to_directory(work)

        def keep(trainer: Any = None, **result: Any) -> None:
            keep_folders(work, brought, result or {KEPT: True})

        job = moved_job(order.job, project, work)
        if order.keeps_epochs:
            job.callbacks["on_fit_epoch_end"] = [*job.callbacks.get("on_fit_epoch_end", []), keep]
        run = job.begin()
        run.compress()
        keep()
        if order.finish:
            best = run.finetune()
            keep(**{BEST: str(project / best.relative_to(work))})


def moved_job(job: Job, project: Path, work: Path) -> Job:
    """Return a run with its folders, and those that it takes over from, in another place.

    Args:
        job (Job): The run.
        project (Path): Where the folders are in it.
        work (Path): Where they are here.
    """

    def moved(value: Any) -> Any:
        inside = isinstance(value, (str, Path)) and project in Path(value).parents
        return str(work / Path(value).relative_to(project)) if inside else value

    args = {key: moved(value) for key, value in job.args.items()}
    files = [{key: moved(value) for key, value in row.items()} for row in job.known.files]
    known = job.known._replace(args={key: moved(value) for key, value in job.known.args.items()}, files=files)
    args |= {"project": str(work)}
    return job._replace(args=args, callbacks=dict(job.callbacks), known=known, place=moved(job.place))


def keep_folders(work: Path, brought: set[str], result: dict[str, Any]) -> None:
    """Put the folders of a run into Ray's storage, as they are at this moment.

    Args:
        work (Path): Folder of the folders.
        brought (set[str]): Names of those that belong to other runs.
        result (dict[str, Any]): What is reported together with them.
    """
    with TemporaryDirectory(prefix=PREFIX) as temporary:
        for folder in work.iterdir():
            if folder.name not in brought:
                shutil.copytree(folder, Path(temporary, folder.name), copy_function=os.link)
        tune.report(result, checkpoint=tune.Checkpoint.from_directory(temporary))


def fetch(grid: Grid, checkpoint: tune.Checkpoint | None, file: Path) -> None:
    """Bring the folders of a run from Ray's storage to the grid's, unless they are there.

    Args:
        grid (Grid): The grid.
        checkpoint (tune.Checkpoint, optional): The folders; None of a run on a shared file system.
        file (Path): A file that the run has made last.
    """
    if checkpoint is not None and not file.exists():
        checkpoint.to_directory(grid.record.folder.parent)
