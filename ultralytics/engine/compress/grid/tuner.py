# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tuner of Ray that runs cells as its trials: begun or restored, with its storage, its retries and its ending."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from ray import tune

from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.engine.compress.evaluation import MAIN_METRIC, TASK_METRICS
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.connection import resources
from ultralytics.engine.compress.grid.early_stop import CELL, PerTarget
from ultralytics.engine.compress.grid.job import Grid
from ultralytics.engine.compress.grid.worker import BEST
from ultralytics.utils import DEFAULT_CFG, LOGGER, colorstr

# keys in which cells agree that compete with each other
TARGET = ("model", "data", "seed", "speed_up", "target", "budget", "precision")
KEPT_CHECKPOINTS = 3  # of each trial: Ray Tune notes the newest one every few seconds, and restores what it has noted


class Ended(NamedTuple):
    """What is known of a trial that has ended.

    Attributes:
        metrics (dict[str, Any]): Its last result.
        checkpoint (tune.Checkpoint, optional): The folders of its run in Ray's storage, if it has put them there.
    """

    metrics: dict[str, Any]
    checkpoint: tune.Checkpoint | None


class Listener(tune.Callback):
    """Tells when a cell has ended.

    Ray Tune pickles its callbacks and restores them from there: what is told belongs to the class, which is this
    process's, whatever has been restored.
    """

    tell: ClassVar[Callable[[dict[str, Ended]], None] | None] = None

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell the ends of all cells that are fine-tuned, by their names."""
        if Listener.tell:
            ended = [t for t in trials if BEST in (t.last_result or {})]
            Listener.tell({t.config[CELL]: Ended(t.last_result, t.checkpoint) for t in ended})


def run_trials(
    grid: Grid, cells: Sequence[Cell], trainable: Callable[..., Any], part: str = "", on_end: Callable | None = None
) -> dict[str, Ended]:
    """Run a function for every cell as a trial of Ray Tune, or the rest of it.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells.
        trainable (Callable): Takes the configuration of a trial, in which `CELL` is the name of its cell.
        part (str): What the trials are to the grid, if they are not all of it.
        on_end (Callable, optional): Is told all ends so far whenever a cell has ended.

    Returns:
        (dict[str, Ended]): Name of a cell to how it has ended.

    Raises:
        RuntimeError: If cells have failed; the others are complete.
    """
    tuner = make_tuner(
        grid, [cell.name for cell in reversed(cells)], trainable, part, None if part else early_stopping(grid, cells)
    )
    Listener.tell = on_end
    try:
        found = tuner.fit()
    finally:
        Listener.tell = None
    results = [found[i] for i in range(len(found))]
    if failed := [f"{result_name(result)}: {reason(result.error)}" for result in results if result.error]:
        raise RuntimeError(
            f"{len(failed)} of {len(cells)} runs have failed, the others are complete. Mend the cause and go on with "
            f"'resume=True'. {'; '.join(failed)}"
        )
    return {result_name(result): Ended(result.metrics or {}, result.checkpoint) for result in results}


def make_tuner(
    grid: Grid, names: list[str], trainable: Callable[..., Any], part: str, scheduler: PerTarget | None
) -> tune.Tuner:
    """Return Ray's tuner of cells: of the same cells before, when the grid is resumed, else a new one."""
    assert grid.cluster is not None  # `run_cells` has asked
    trainable = tune.with_resources(trainable, resources(grid))
    space = {CELL: tune.grid_search(names)}
    folder = grid.record.folder
    storage = grid.cluster.storage or str(folder / "ray")
    digest = hashlib.sha256(repr((str(folder), names)).encode()).hexdigest()[:8]
    experiment = "-".join(filter(None, (folder.name, part, digest)))
    base, mark, query = storage.partition("?")
    path = f"{base.rstrip('/')}/{experiment}{mark}{query}"
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl+C ends a sweep as it ends any run
    if grid.args.get("resume") and tune.Tuner.can_restore(path):
        LOGGER.info(f"{colorstr('sweep:')} restoring {path}")
        return tune.Tuner.restore(path, trainable, resume_errored=True, param_space=space)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, trial_name_creator=name_of, trial_dirname_creator=name_of),
        run_config=tune.RunConfig(
            name=experiment,
            storage_path=storage,
            failure_config=tune.FailureConfig(max_failures=grid.cluster.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            callbacks=[Listener()],
        ),
    )


def early_stopping(grid: Grid, cells: Sequence[Cell]) -> PerTarget | None:
    """Return the scheduler that stops cells early, if that is asked for."""
    assert grid.cluster is not None
    if grid.cluster.grace_period is None:
        return None
    task_name = grid.args["task"]
    values = {cell.name: {**DEFAULTS, **grid.args, **cell.keys} for cell in cells}
    targets = {name: tuple(value.get(key) for key in TARGET) for name, value in values.items()}
    epochs = grid.args.get("epochs") or DEFAULT_CFG.epochs
    metric = TASK_METRICS[task_name][MAIN_METRIC[task_name]]
    return PerTarget(targets, metric, epochs, grid.cluster.grace_period)


def name_of(trial: Any) -> str:
    """Return what Ray Tune calls a trial, and its folder."""
    return trial.config[CELL]


def reason(error: Exception) -> str:
    """Return the last line of an error of a worker, which holds its traceback as well."""
    return str(error).strip().splitlines()[-1]


def result_name(result: Any) -> str:
    """Return the name of the cell of a result of Ray Tune, whose folder has it."""
    return result.path.rstrip("/").rpartition("/")[2]
