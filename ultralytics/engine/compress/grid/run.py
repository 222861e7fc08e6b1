# SPDX-License-Identifier: AGPL-3.0-or-later
"""Run cells of a grid one after the other: all cuts first, then the fine-tunings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.folder import Record
from ultralytics.engine.compress.grid.shared import Known, Shared
from ultralytics.engine.compress.runs import moved
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.utils import LOGGER, colorstr

Reports = dict[str, dict[str, Any]]  # name of a cell to the report of its fine-tuning


class Grid(NamedTuple):
    """What the cells of a grid have in common.

    Attributes:
        compressor (type): Compressor class of the task.
        args (dict[str, Any]): Overrides that hold in all cells; 'name' is the grid's.
        callbacks (dict): Callbacks of the training stages.
        record (Record): Which runs the grid has begun.
        shared (Shared): What cells take over from those before them, in this call of `run_cells` and later ones.
    """

    compressor: type[Compressor]
    args: dict[str, Any]
    callbacks: dict
    record: Record
    shared: Shared


def run_cells(grid: Grid, cells: Sequence[Cell], on_report: Callable[[Reports], None] | None = None) -> Reports:
    """Cut and fine-tune cells, each an ordinary run in folders of its own; what is complete is not done again.

    All cuts are made before the first fine-tuning, in the order given, so that a target out of reach stops the grid
    early; then the last cut is fine-tuned first.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells, which agree in what a validation reads ('data', 'imgsz', ...).
        on_report (Callable, optional): Is told the reports so far whenever a cell has ended.

    Returns:
        (dict[str, dict]): Name of a cell to the report of its fine-tuning, see
            `ultralytics.engine.pruning.report.build.build_report`, with the paths of weights where they are now.

    Raises:
        ValueError: If the arguments of a cell are not valid, or its target is out of reach.
    """
    runs = {}
    for cell in cells:
        LOGGER.info(f"{colorstr('sweep:')} cutting {describe(cell)}")
        run = runs[cell.name] = begin(
            grid.compressor, arguments_of(grid, cell), grid.callbacks, grid.shared.known(cell)
        )
        run.compress()
        grid.shared.learn(cell, run.save_dir)
    reports: Reports = {}
    for cell in reversed(cells):
        LOGGER.info(f"{colorstr('sweep:')} fine-tuning {describe(cell)}")
        grid.shared.known(cell).give(runs[cell.name])
        reports[cell.name] = read_tuned(runs[cell.name].finetune(), grid.record.folder)
        grid.shared.learn_files(reports[cell.name])
        if on_report:
            on_report(reports)
    return reports


def arguments_of(grid: Grid, cell: Cell) -> dict[str, Any]:
    """Return the arguments of a cell's run, whose folder is noted in the grid's record."""
    own = {"name": f"{grid.args['name']}-{cell.name}-prune", "mode": "compress"}
    args = {**grid.args, **grid.shared.known(cell).args, **cell.keys, **own}
    return {**args, **grid.record.place(cell, args)}


def begin(compressor: type[Compressor], args: dict[str, Any], callbacks: dict, known: Known) -> Compressor:
    """Return the run of a cell, with what it takes over from others."""
    run = compressor(overrides=args, _callbacks=callbacks)
    known.give(run)
    return run


def read_tuned(best: Path, folder: Path) -> dict[str, Any]:
    """Return the report of a fine-tuning, with the paths of weights where they are now.

    Args:
        best (Path): Its weights.
        folder (Path): Folder of the grid.
    """
    report = json.loads((best.parents[1] / REPORT_FILE).read_text(encoding="utf-8"))
    for row in report["rows"].values():
        row["weights"] = str(moved(row["weights"], folder))
    return report


def describe(cell: Cell) -> str:
    """Return the values of a cell, for the log."""
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in cell.keys.items()
    )
