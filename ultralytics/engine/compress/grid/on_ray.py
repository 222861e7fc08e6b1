# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run cells of a grid on Ray: the first ones make what cells share, then Ray Tune runs the cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray import tune

from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.connection import collect, connected, on_device, resources, task
from ultralytics.engine.compress.grid.job import Grid, Job, Reports, job_of, read_tuned
from ultralytics.engine.compress.grid.stored import Order, fetch, run_order
from ultralytics.engine.compress.grid.tuner import Ended, run_trials
from ultralytics.engine.compress.grid.worker import BEST, cut, fine_tune
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.utils import LOGGER, colorstr


class Folders(NamedTuple):
    """The folders of a run in Ray's storage.

    Attributes:
        cell (Cell): The cell whose run it is.
        dense (tuple): What the cells agree in that take over from it.
        checkpoint (tune.Checkpoint): The folders.
    """

    cell: Cell
    dense: tuple
    checkpoint: tune.Checkpoint


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
    assert grid.cluster is not None  # `run_cells` has asked

    def read(ended: Mapping[str, Ended]) -> Reports:
        tuned = {name: end for name, end in ended.items() if BEST in end.metrics}
        for end in tuned.values():
            fetch(grid, end.checkpoint, Path(end.metrics[BEST]))
        names = [cell.name for cell in reversed(cells) if cell.name in tuned]
        return {name: read_tuned(Path(tuned[name].metrics[BEST])) for name in names}

    def tell(ended: Mapping[str, Ended]) -> None:
        reports = read(ended)
        if on_report:
            on_report(reports)

    with connected():
        if grid.cluster.is_stored:
            trainable = tune.with_parameters(
                run_order, orders=orders_of(grid, cells, lead_stored(grid, cells), finish=True)
            )
        else:
            lead(grid, cells)
            trainable = tune.with_parameters(fine_tune, jobs={cell.name: placed(grid, cell) for cell in cells})
        reports = read(run_trials(grid, cells, trainable, on_end=tell))
    if stopped := [cell.name for cell in cells if cell.name not in reports]:
        LOGGER.info(f"{colorstr('sweep:')} stopped early, behind others of the same target: {', '.join(stopped)}")
    return reports


def call_on_ray(grid: Grid, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns on a worker that has what a cell is given."""
    with connected():
        return collect([task(grid, function).remote(*args)])[0]


def lead(grid: Grid, cells: Sequence[Cell]) -> None:
    """Cut the cells that make what others take over, where the others will find it."""
    for leaders in rounds(grid, cells):
        jobs = [placed(grid, cell) for cell in leaders]
        collect([task(grid, cut).remote(job) for job in jobs])
        for cell, job in zip(leaders, jobs):
            grid.shared.learn(cell, Path(job.place))


def lead_stored(grid: Grid, cells: Sequence[Cell]) -> list[Folders]:
    """Cut the cells that make what others take over, and return where it is in Ray's storage."""
    made: list[Folders] = []
    for number, leaders in enumerate(filter(None, rounds(grid, cells))):
        orders = orders_of(grid, leaders, made, finish=False)
        ended = run_trials(grid, leaders, tune.with_parameters(run_order, orders=orders), f"lead{number}")
        for cell in leaders:
            checkpoint, run = ended[cell.name].checkpoint, Path(orders[cell.name].job.place)
            assert checkpoint is not None  # with which every order ends
            fetch(grid, checkpoint, run / REPORT_FILE)
            grid.shared.learn(cell, run)
            made.append(Folders(cell, grid.shared.dense(cell), checkpoint))
    return made


def rounds(grid: Grid, cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Return the cells that make dense models, and those that need these to make what others take over."""
    firsts = grid.shared.firsts(cells)
    return firsts, [cell for cell in grid.shared.leaders(cells) if cell not in firsts]


def orders_of(grid: Grid, cells: Sequence[Cell], folders: Sequence[Folders], finish: bool) -> dict[str, Order]:
    """Return what workers need to run cells in folders of their own.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells.
        folders (Sequence[Folders]): Runs that others take over from.
        finish (bool): Fine-tune as well.
    """
    epochs = resources(grid)["gpu"] <= 1  # otherwise other processes train, which cannot tell Ray Tune
    orders = {}
    for cell in cells:
        others = [
            found.checkpoint for found in folders if found.dense == grid.shared.dense(cell) and found.cell != cell
        ]
        own = next((found.checkpoint for found in folders if found.cell == cell), None)
        orders[cell.name] = Order(placed(grid, cell), own, others, finish, epochs)
    return orders


def placed(grid: Grid, cell: Cell) -> Job:
    """Return the run of a cell with the devices that Ray gives it."""
    return on_device(grid, job_of(grid, cell))
