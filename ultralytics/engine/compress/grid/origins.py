# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where the cells of a grid begin: which dense model and data set each has, and whether all of them can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ultralytics.cfg.compress.names import SWEEPABLE_STOCK
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.job import Grid, arguments_of_cell
from ultralytics.engine.compress.stages import has_begun


class Origin(NamedTuple):
    """What the row of a cell in a table is compared with.

    Attributes:
        dense (str): Name of its dense model's row.
        varied (dict[str, Any]): Its value of each of 'model', 'data' and 'seed' in which the cells of the grid differ.
        dense_varied (dict[str, Any]): The same for the dense model's row; None of a seed that it does not depend on.
    """

    dense: str
    varied: dict[str, Any]
    dense_varied: dict[str, Any]


def origins_of(grid: Grid, cells: Sequence[Cell]) -> dict[str, Origin]:
    """Return the origin of every cell by its name.

    Args:
        grid (Grid): The grid.
        cells (Sequence[Cell]): All its cells.
    """
    origins, named, taken = {}, dict[tuple, str](), {cell.name for cell in cells}
    for cell in cells:
        varied = {key: cell.keys[key] for key in SWEEPABLE_STOCK if key in cell.keys}
        dense = {key: value if key in grid.shared.of_dense(cell) else None for key, value in varied.items()}
        if (of := grid.shared.dense(cell)) not in named:
            name = grid.shared.dense_name(cell)
            while name in taken:  # a model may be called that
                name += "-dense"
            named[of] = name
            taken.add(name)
        origins[cell.name] = Origin(named[of], varied, dense)
    return origins


class Passed(Exception):
    """A run has passed its checks, and was only to be checked."""


def check_cells(grid: Grid, cells: Sequence[Cell]) -> None:
    """Check each model with each data set as a run does, before any of them has a folder.

    A grid of one model and one data set is checked by its first run.

    Args:
        grid (Grid): What the cells have in common.
        cells (Sequence[Cell]): Cells.

    Raises:
        ValueError: If a model or a data set is not valid, they do not fit each other or the cell's keys, or the models
            take different image sizes.
        FileNotFoundError: If a file is missing.
    """
    firsts = {cell.part(("model", "data")): cell for cell in reversed(cells)}
    if len(firsts) == 1:
        return
    sizes: dict[int, str] = {}
    for cell in firsts.values():
        if (run := grid.record.runs.get(cell.entry)) and has_begun(Path(run)):
            continue
        args = arguments_of_cell(grid, cell)
        size = checked_size(grid.compressor_of(cell), {**args, "resume": False})
        sizes.setdefault(size, str(args["model"]))
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise ValueError(
            f"'imgsz={grid.args.get('imgsz')}' becomes {first} pixels with 'model={one}' and {second} with 'model="
            f"{other}', by their strides. Give a multiple of both strides, i.e. 'imgsz={max(sizes)}'."
        )


def checked_size(compressor: type[Compressor], args: Mapping[str, Any]) -> int:
    """Check a run as its constructor does, and return the image size that it takes.

    Args:
        compressor (type): Its class.
        args (Mapping[str, Any]): Its arguments.
    """
    found: list[int] = []

    class Checked(compressor):  # type: ignore[valid-type,misc]
        """Passes instead of taking a folder."""

        def claim_folder(self, folder: Path) -> NoReturn:
            found.append(self.image_size)
            raise Passed

    try:
        Checked(overrides=dict(args))
    except Passed:
        return found[0]
    raise AssertionError("a run was begun that was to be checked")
