# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the cells of a grid share: made once, by the cell that comes first to need it, and taken over by the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.engine.compress.checks.models import is_yaml
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.runs import moved
from ultralytics.engine.compress.sensitivity_map import SENSITIVITY_FILE, read_rows
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.report.build import REPORT_FILE

OF_DENSE = ("model", "data", "dense_epochs")
OF_SPARSITY = (
    "prune_method",
    "sl_epochs",
    "sl_hyp",
    "sl_model",
    "reg",
    "reg_decay",
    "reg_decay_type",
    "reg_decay_step",
    "delta_reg",
)
OF_SENSITIVITY = ("prune_method", "prune_batches")


class Known(NamedTuple):
    """What a run takes over from others, in plain types that any process can be sent.

    Attributes:
        args (dict[str, Any]): 'model', the dense checkpoint, and 'sl_model', the sparse one.
        metrics (dict[str, dict[str, float]]): Metrics of these checkpoints.
        sensitivity (list[dict[str, Any]]): Rows of the sensitivity map.
        files (list[dict[str, Any]]): Rows of the dense model's deployed files.
    """

    args: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    sensitivity: list[dict[str, Any]]
    files: list[dict[str, Any]]

    def give(self, run: Compressor) -> None:
        """Hand to a run what it does not take as an argument."""
        run.metrics = {name: dict(values) for name, values in self.metrics.items()}
        run.known_sensitivity, run.known_files = self.sensitivity, self.files


class Shared:
    """What is known of the work that the cells of a grid share.

    A dense model, its validation and its deployed files serve all cells of one model and data set; of one seed, too, if
    the grid trains it. A sparsity training serves those of one dense model, seed, method and strength, unless it goes
    towards a target, and a sensitivity map those of one method that measure it on the same weights.

    Attributes:
        args (Mapping[str, Any]): Arguments that hold in all cells.
    """

    def __init__(self, args: Mapping[str, Any]):
        """Know nothing yet."""
        self.args = args
        self._dense: dict[tuple, tuple[str, dict[str, float]]] = {}
        self._sparse: dict[tuple, tuple[str, dict[str, float]]] = {}
        self._sensitivity: dict[tuple, list[dict[str, Any]]] = {}
        self._files: dict[tuple, list[dict[str, Any]]] = {}

    def known(self, cell: Cell) -> Known:
        """Return what a cell can take over by now."""
        args: dict[str, Any] = {}
        metrics: dict[str, dict[str, float]] = {}
        dense = self._dense.get(self.dense(cell))
        for key, row, found in (
            ("model", "dense", dense),
            ("sl_model", "sparse", self._sparse.get(self._sparsity(cell) or ())),
        ):
            if found:
                args[key], metrics[row] = found
        if dense:
            args["dense_epochs"] = 0  # the first cell has trained it on
        files = self._files.get(self.dense(cell), [])
        return Known(args, metrics, self._sensitivity.get(self._mapped(cell) or (), []), files)

    def learn(self, cell: Cell, run: Path) -> None:
        """Note what a cell has made up to its cut.

        Args:
            cell (Cell): The cell.
            run (Path): Folder of its run.
        """
        report = json.loads((run / REPORT_FILE).read_text(encoding="utf-8"))
        rows = report["rows"]

        def made(name: str) -> tuple[str, dict[str, float]]:
            return str(moved(rows[name]["weights"], run)), {k: rows[name][k] for k in report["metrics"]}

        self._dense.setdefault(self.dense(cell), made("dense"))
        if "sparse" in rows and (sparsity := self._sparsity(cell)):
            self._sparse.setdefault(sparsity, made("sparse"))
        if (mapped := self._mapped(cell)) and (measured := read_rows(run / SENSITIVITY_FILE)):
            self._sensitivity.setdefault(mapped, measured)

    def learn_files(self, cell: Cell, report: Mapping[str, Any]) -> None:
        """Note the dense model's deployed files.

        Args:
            cell (Cell): The cell.
            report (Mapping[str, Any]): Report of its fine-tuning.
        """
        if rows := report.get("deploy", {}).get("rows"):
            self._files.setdefault(self.dense(cell), rows)

    def firsts(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells, in their order, each of which is the first of its dense model."""
        firsts = {self.dense(cell): cell for cell in reversed(cells)}
        return [cell for cell in cells if firsts[self.dense(cell)] is cell]

    def leaders(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells, in their order, whose cut makes what later ones take over; `firsts` always do."""
        made: set[tuple] = set()
        leaders: list[Cell] = []
        firsts = self.firsts(cells)
        for cell in cells:
            values = {**DEFAULTS, **self.args, **cell.keys}
            maps = values["sensitivity"] or values["sensitivity_drop"] is not None
            makes = (self._sparsity(cell), self._mapped(cell) if maps else None)
            new = {made_of for made_of in makes if made_of} - made
            if new or cell in firsts:
                leaders.append(cell)
                made |= new
        return leaders

    def dense(self, cell: Cell) -> tuple:
        """Return what cells agree in that share a dense model."""
        return self._values(cell, self.of_dense(cell))

    def dense_name(self, cell: Cell) -> str:
        """Return what a table calls the dense model of a cell, 'dense' if there is only one."""
        return "-".join(filter(None, (cell.part(self.of_dense(cell)), "dense")))

    def of_dense(self, cell: Cell) -> tuple[str, ...]:
        """Return the keys that say which dense model a cell has."""
        values = {**DEFAULTS, **self.args, **cell.keys}
        trained = values["dense_epochs"] or is_yaml(values.get("model", ""))
        return (*OF_DENSE, "seed") if trained else OF_DENSE

    def _values(self, cell: Cell, keys: tuple[str, ...]) -> tuple:
        """Return the values of keys in a cell."""
        values = {**DEFAULTS, **self.args, **cell.keys}
        return tuple(str(values.get(key)) for key in keys)

    def _sparsity(self, cell: Cell) -> tuple | None:
        """Return what cells agree in that share a sparsity training; None if the cell's serves no other."""
        method, *values = self._values(cell, OF_SPARSITY)
        if METHODS[method].trains_towards_target:
            return None
        if not METHODS[method].regulariser:
            return ()
        return (method, *values, *self.dense(cell), *self._values(cell, ("seed",)))

    def _mapped(self, cell: Cell) -> tuple | None:
        """Return what cells agree in that share a sensitivity map; None if the cell's serves no other."""
        if (sparsity := self._sparsity(cell)) is None:
            return None
        return (*sparsity, *self.dense(cell), *self._values(cell, (*OF_SENSITIVITY, "seed")))
