# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run cells of a grid: here, one after the other, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.job import Grid, Reports, job_of, read_tuned
from ultralytics.utils import LOGGER, colorstr


def run_cells(grid: Grid, cells: Sequence[Cell], on_report: Callable[[Reports], None] | None = None) -> Reports:
    """Cut and fine-tune cells, each an ordinary run in folders of its own; what is complete is not done again.

    In turn, all cuts are made before the first fine-tuning, in the order given, so that a target out of reach stops the
    grid early; then the last cut is fine-tuned first.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells; those of one data set agree in what a validation reads ('imgsz', ...).
        on_report (Callable, optional): Is told the reports so far whenever a cell has ended.

    Returns:
        (dict[str, dict]): Name of a cell to the report of its fine-tuning, see
            `ultralytics.engine.pruning.report.build.build_report`, with the paths of weights where they are now; cells
            in the reverse of the order given.

    Raises:
        ValueError: If the arguments of a cell are not valid, or its target is out of reach.
        RuntimeError: If cells have failed on Ray; the others are complete.
    """
    if grid.cluster:
        from ultralytics.engine.compress.grid.on_ray import run_on_ray  # an extra

        return run_on_ray(grid, cells, on_report)
    runs = {}
    for cell in cells:
        LOGGER.info(f"{colorstr('sweep:')} cutting {describe(cell)}")
        run = runs[cell.name] = job_of(grid, cell).begin()
        run.compress()
        grid.shared.learn(cell, run.save_dir)
    reports: Reports = {}
    for cell in reversed(cells):
        LOGGER.info(f"{colorstr('sweep:')} fine-tuning {describe(cell)}")
        grid.shared.known(cell).give(runs[cell.name])
        reports[cell.name] = read_tuned(runs[cell.name].finetune())
        grid.shared.learn_files(cell, reports[cell.name])
        if on_report:
            on_report(reports)
    return reports


@contextmanager
def workers(grid: Grid) -> Iterator[int]:
    """Keep what runs cells until the block ends, and yield how many run at the same time."""
    if grid.cluster is None:
        yield 1
        return
    from ultralytics.engine.compress.grid.connection import connected, places  # an extra

    with connected():
        yield places(grid)


def run_on_a_worker(grid: Grid, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns where a cell would run: here, or on a worker of the Ray cluster."""
    if grid.cluster and not grid.cluster.is_stored:  # else the runs' folders are here alone
        from ultralytics.engine.compress.grid.on_ray import call_on_ray  # an extra

        return call_on_ray(grid, function, *args)
    return function(*args)


def describe(cell: Cell) -> str:
    """Return the values of a cell, for the log."""
    values = {key: f"{value:g}" if isinstance(value, float) else value for key, value in cell.keys.items()}
    return ", ".join(f"{key}={value}" for key, value in values.items())
