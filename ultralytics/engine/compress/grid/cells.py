# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cells of a grid: every combination of the values that keys of the compress mode are given."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import SWEEPABLE, check_sweep, get_prune_cfg, read_sweep, split


class Cell(NamedTuple):
    """One run of a grid.

    Attributes:
        name (str): What the names of its folders say, i.e. '2x-lamp' in 'mine-2x-lamp-prune'.
        keys (dict[str, Any]): Overrides that are its own.
    """

    name: str
    keys: dict[str, Any]

    @property
    def entry(self) -> str:
        """Return its key in the record of the runs, in which version 0.2.0 has noted targets as bare numbers."""
        return f"{self.keys['speed_up']:g}" if self.keys.keys() == {"speed_up"} else self.name


def read_cells(args: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a grid, those first whose target may be out of reach.

    Args:
        args (Mapping[str, Any]): Arguments, of which those in `SWEEPABLE` may be lists.

    Returns:
        (list[Cell]): Cells by falling 'speed_up' or rising 'target', others against the order of their values, in
            which their table lists them.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range, or given twice, or two keys contradict each other.
    """
    lists = read_sweep(args)
    check_sweep(lists)
    lists |= {"speed_up": [float(target) for target in lists["speed_up"]]} if "speed_up" in lists else {}
    cells = [name_cell(dict(zip(lists, values))) for values in product(*lists.values())]
    own = split(args)[1]
    for cell in cells:
        get_prune_cfg({**own, **cell.keys})
    cells.reverse()
    return sorted(cells, key=lambda cell: (-cell.keys.get("speed_up", 0), cell.keys.get("target", 0)))


def name_cell(keys: dict[str, Any]) -> Cell:
    """Return the cell of overrides, named by those that a sweep may vary.

    Args:
        keys (dict[str, Any]): Checked overrides, in the order in which the name tells them.
    """
    return Cell("-".join(SWEEPABLE[key](value) for key, value in keys.items() if key in SWEEPABLE), keys)
