# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run cells of a grid on Ray: tasks make what cells share, then Ray Tune runs the cells and takes up lost ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.engine.compress.evaluation import MAIN_METRIC, TASK_METRICS
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.connection import collect, connected, on_device, resources, task
from ultralytics.engine.compress.grid.early_stop import CELL, PerTarget
from ultralytics.engine.compress.grid.job import Grid, Reports, job_of, read_tuned
from ultralytics.engine.compress.grid.worker import BEST, cut, fine_tune
from ultralytics.utils import DEFAULT_CFG, LOGGER, colorstr

# keys in which cells agree that compete with each other
TARGET = ("model", "data", "seed", "speed_up", "target", "budget", "precision")


class Listener(tune.Callback):
    """Tells when a cell has ended.

    Ray Tune pickles its callbacks and restores them from there: what is told belongs to the class, which is this
    process's, whatever has been restored.
    """

    tell: ClassVar[Callable[[dict[str, str]], None] | None] = None

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell the weights of all cells that have ended, by their names."""
        if Listener.tell:
            Listener.tell({t.config[CELL]: t.last_result[BEST] for t in trials if BEST in (t.last_result or {})})


def run_on_ray(grid: Grid, cells: Sequence[Cell], on_report: Callable[[Reports], None] | None) -> Reports:
    """Cut and fine-tune cells on the workers of a Ray cluster; see `run_cells`.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells.
        on_report (Callable, optional): Is told the reports so far whenever a cell has ended.

    Returns:
        (dict[str, dict]): Name of a cell to the report of its fine-tuning, but for cells that were stopped early.

    Raises:
        RuntimeError: If cells have failed; the others are complete.
    """

    def read(weights: Mapping[str, str]) -> Reports:
        ended = [cell.name for cell in reversed(cells) if cell.name in weights]
        return {name: read_tuned(Path(weights[name]), grid.record.folder) for name in ended}

    with connected():
        lead(grid, cells)
        tuner = make_tuner(grid, cells)
        Listener.tell = on_report and (lambda weights: on_report(read(weights)))
        try:
            found = tuner.fit()
        finally:
            Listener.tell = None
    results = [found[i] for i in range(len(found))]
    failed = [f"{Path(result.path).name}: {reason(result.error)}" for result in results if result.error]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(cells)} runs have failed, the others are complete. Mend the cause and go on with "
            f"'resume=True'. {'; '.join(failed)}"
        )
    last = {Path(result.path).name: result.metrics or {} for result in results}
    reports = read({name: metrics[BEST] for name, metrics in last.items() if BEST in metrics})
    if stopped := [cell.name for cell in cells if cell.name not in reports]:
        LOGGER.info(f"{colorstr('sweep:')} stopped early, behind others of the same target: {', '.join(stopped)}")
    return reports


def call_on_ray(grid: Grid, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns on a worker that has what a cell is given."""
    with connected():
        return collect([task(grid, function).remote(*args)])[0]


def lead(grid: Grid, cells: Sequence[Cell]) -> None:
    """Cut the cells that make what others take over; the first one of each dense model makes it, which they need."""
    firsts = grid.shared.firsts(cells)
    others = [cell for cell in grid.shared.leaders(cells) if cell not in firsts]
    for leaders in (firsts, others):
        jobs = [on_device(grid, job_of(grid, cell)) for cell in leaders]
        collect([task(grid, cut).remote(job) for job in jobs])
        for cell, job in zip(leaders, jobs):
            grid.shared.learn(cell, Path(job.place))


def make_tuner(grid: Grid, cells: Sequence[Cell]) -> tune.Tuner:
    """Return Ray's tuner of cells: of the same cells before, when the grid is resumed, else a new one."""
    assert grid.cluster is not None  # `run_cells` has asked
    names = [cell.name for cell in reversed(cells)]
    jobs = {cell.name: on_device(grid, job_of(grid, cell)) for cell in cells}
    trainable = tune.with_resources(tune.with_parameters(fine_tune, jobs=jobs), resources(grid))
    space = {CELL: tune.grid_search(names)}
    folder = grid.record.folder
    storage = grid.cluster.storage or str(folder / "ray")
    experiment = f"{folder.name}-{hashlib.sha256(repr((str(folder), names)).encode()).hexdigest()[:8]}"
    path = f"{storage}/{experiment}"
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl+C ends a sweep as it ends any run
    if grid.args.get("resume") and tune.Tuner.can_restore(path):
        LOGGER.info(f"{colorstr('sweep:')} restoring {path}")
        return tune.Tuner.restore(path, trainable, resume_errored=True, param_space=space)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=early_stopping(grid, cells), trial_name_creator=name_of, trial_dirname_creator=name_of
        ),
        run_config=tune.RunConfig(
            name=experiment,
            storage_path=storage,
            failure_config=tune.FailureConfig(max_failures=grid.cluster.max_failures),
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
