# SPDX-License-Identifier: AGPL-3.0-or-later
"""The run of one cell as a value: everything that a process needs to begin it or to go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import read_sweep
from ultralytics.engine.compress.checks.cluster import RAY_KEYS, Cluster
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.folder import Record
from ultralytics.engine.compress.grid.shared import Known, Shared
from ultralytics.engine.compress.runs import located, moved
from ultralytics.engine.compress.stages import has_begun
from ultralytics.engine.pruning.report.build import REPORT_FILE

Reports = dict[str, dict[str, Any]]  # name of a cell to the report of its fine-tuning


class Grid(NamedTuple):
    """What the cells of a grid have in common.

    Attributes:
        compressors (Mapping[str, type]): Model to the compressor class of its family and task.
        args (dict[str, Any]): Overrides that hold in all cells; 'name' is the grid's.
        callbacks (dict): Callbacks of the training stages.
        record (Record): Which runs the grid has begun.
        shared (Shared): What cells take over from those before them, in this call of `run_cells` and later ones.
        cluster (Cluster, optional): How cells run on Ray; without it they run here, in turn.
    """

    compressors: Mapping[str, type[Compressor]]
    args: dict[str, Any]
    callbacks: dict
    record: Record
    shared: Shared
    cluster: Cluster | None = None

    def compressor_of(self, cell: Cell) -> type[Compressor]:
        """Return the compressor class of a cell's model."""
        return self.compressors[str({**self.shared.args, **cell.keys}["model"])]


class Job(NamedTuple):
    """The run of a cell, in types that can be sent to another process.

    Attributes:
        compressor (type): Compressor class of the task.
        args (dict[str, Any]): Overrides of the run.
        callbacks (dict): Callbacks of the training stages.
        known (Known): What it takes over from other runs.
        place (str): Folder of the run.
    """

    compressor: type[Compressor]
    args: dict[str, Any]
    callbacks: dict
    known: Known
    place: str

    def begin(self) -> Compressor:
        """Return the run, which goes on with what is in its folder."""
        again = has_begun(Path(self.place))
        place = {"resume": self.place} if again else {"resume": False, "save_dir": self.place}
        run = self.compressor(overrides={**self.args, **place}, _callbacks=self.callbacks)
        self.known.give(run)
        return run


def make_grid(
    compressors: Mapping[str, type[Compressor]], args: Mapping[str, Any], callbacks: dict, record: Record
) -> Grid:
    """Return a grid of which nothing is known yet.

    Args:
        compressors (Mapping[str, type]): Model to the compressor class of its family and task.
        args (Mapping[str, Any]): Overrides of the configuration, those of Ray among them; keys may be lists.
        callbacks (dict): Callbacks of the training stages.
        record (Record): Which runs the grid has begun.
    """
    lists = read_sweep(args)
    own = {key: value for key, value in args.items() if key not in RAY_KEYS and key not in lists}
    return Grid(compressors, located(own), callbacks, record, Shared(own), Cluster.of(args))


def job_of(grid: Grid, cell: Cell) -> Job:
    """Return the run of a cell, whose folder is noted in the grid's record."""
    known = grid.shared.known(cell)
    args = arguments_of_cell(grid, cell)
    return Job(grid.compressor_of(cell), {**args, **known.args}, grid.callbacks, known, grid.record.place(cell, args))


def arguments_of_cell(grid: Grid, cell: Cell) -> dict[str, Any]:
    """Return the arguments of a cell's run, without what it takes over from others."""
    own = {"name": f"{grid.args['name']}-{cell.name}-prune", "mode": "compress"}
    return {**grid.args, **located(cell.keys), **own}


def read_tuned(best: Path) -> dict[str, Any]:
    """Return the report of a fine-tuning, with the paths of weights where they are now.

    Args:
        best (Path): Its weights.

    Raises:
        FileNotFoundError: If there is none, since what it would compare with is gone.
    """
    file = best.parents[1] / REPORT_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"'{file}' was not written, as the log says why: the table has no figures of this run. Put back what is "
            "gone, and resume."
        )
    report = json.loads(file.read_text(encoding="utf-8"))
    for row in report["rows"].values():
        row["weights"] = str(moved(row["weights"], best.parents[1]))
    return report
