# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cells of a grid: every combination of the values that keys of the compress mode are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import check_sweep, get_prune_cfg, read_sweep, split
from ultralytics.cfg.compress.names import IN_NAMES, name_values
from ultralytics.engine.compress.checks.models import check_model_name
from ultralytics.engine.compress.checks.training import check_training, find_data

FOREMOST = ("model", "data")  # the table of a grid has the cells of each together


class Cell(NamedTuple):
    """One run of a grid.

    Attributes:
        name (str): What the names of its folders say, i.e. '2x-lamp' in 'mine-2x-lamp-prune'.
        keys (dict[str, Any]): Overrides that are its own.
        parts (Mapping[str, str]): Those of them that the name tells, and how.
    """

    name: str
    keys: dict[str, Any]
    parts: Mapping[str, str] = {}

    @property
    def entry(self) -> str:
        """Return its key in the record of the runs, in which version 0.2.0 has noted targets as bare numbers."""
        return f"{self.keys['speed_up']:g}" if self.keys.keys() == {"speed_up"} else self.name

    def part(self, keys: Iterable[str]) -> str:
        """Return the part of the name that tells some keys, empty if it tells none of them."""
        return "-".join(name for key, name in self.parts.items() if key in keys)


def read_cells(args: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a grid, those first whose target may be out of reach.

    Args:
        args (Mapping[str, Any]): Arguments, of which those in `IN_NAMES` may be lists.

    Returns:
        (list[Cell]): Cells of one model and data set after another; of each, by falling 'speed_up' or rising 'target',
            others against the order of their values, in which their table lists them.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range, or given twice, or two keys contradict each other.
    """
    lists = read_sweep(args)
    check_stock(lists)
    check_sweep(lists)
    lists |= {"speed_up": [float(target) for target in lists["speed_up"]]} if "speed_up" in lists else {}
    names = [name_values(key, values) for key, values in lists.items()]
    combined = zip(product(*lists.values()), product(*names))
    cells = [name_cell(dict(zip(lists, values)), dict(zip(lists, parts))) for values, parts in combined]
    own = split(args)[1]
    for cell in cells:
        get_prune_cfg({**own, **split(cell.keys)[1]})
    cells.reverse()
    blocks = list(dict.fromkeys(cell.part(FOREMOST) for cell in cells))
    return sorted(
        cells,
        key=lambda cell: (
            *(blocks.index(cell.part(FOREMOST)), -cell.keys.get("speed_up", 0)),
            cell.keys.get("target", 0),
        ),
    )


def check_stock(lists: Mapping[str, list]) -> None:
    """Check several values of training's keys; data sets that this package has are found by their bare name.

    Args:
        lists (Mapping[str, list]): See `read_sweep`.

    Raises:
        ValueError: If a value is not valid.
    """
    for model in lists.get("model", ()):
        check_model_name(model)
    if data := lists.get("data"):
        data[:] = [find_data(value) for value in data]
    for seed in lists.get("seed", ()):
        check_training({"seed": seed})


def name_cell(keys: dict[str, Any], parts: Mapping[str, str] | None = None) -> Cell:
    """Return the cell of overrides.

    Args:
        keys (dict[str, Any]): Checked overrides, in the order in which the name tells them.
        parts (Mapping[str, str], optional): How it tells them; by default the keys that a sweep may vary by themselves.
    """
    parts = parts or {key: IN_NAMES[key](value) for key, value in keys.items() if key in IN_NAMES}
    return Cell("-".join(parts.values()), keys, parts)
