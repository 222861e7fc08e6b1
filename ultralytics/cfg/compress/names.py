# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys that may have several values, and how the names of runs' folders tell these apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os.path import commonprefix
from pathlib import Path
from typing import Any

FILES = {".pt", ".yaml", ".yml", ".json"}  # whose suffix a folder's name leaves out; a folder v1.0 has none


def _bare(file: Any) -> Path:
    """Return the path of a file without its suffix."""
    path = Path(file)
    return path.with_suffix("") if path.suffix.lower() in FILES else path


def _name(file: Any) -> str:
    """Return the name of a file without its suffix."""
    return _bare(file).name


def _switched(key: str, on: bool) -> str:
    """Return how a folder's name tells the two values of a switch apart."""
    return key if on else f"no_{key}"


SWEEPABLE: dict[str, Callable[[Any], str]] = {  # keys that take several values: how a folder's name tells them apart
    "speed_up": "{:g}x".format,
    "target": "target{:g}".format,
    "budget": _name,
    "precision": str,
    "prune_method": str,
    **{key: partial(_switched, key) for key in ("global_pruning", "recalibrate", "refit", "distill")},
    **{
        key: f"{key}{{:g}}".format
        for key in (
            *("round_to", "max_sparsity", "iterative_steps", "prune_batches", "sensitivity_drop"),
            *("dense_epochs", "sl_epochs", "reg", "reg_decay", "reg_decay_step", "delta_reg"),
        )
    },
    "reg_decay_type": str,
    **dict.fromkeys(("sl_hyp", "sl_model"), _name),
}
SWEEPABLE_STOCK = {  # the same for keys of training
    **dict.fromkeys(("model", "data"), _name),
    "seed": "seed{}".format,
}
IN_NAMES = {**SWEEPABLE_STOCK, **SWEEPABLE}  # in the order in which a folder's name has them, but for ...
IN_NAMES["seed"] = IN_NAMES.pop("seed")  # ... the seed, which is last


def name_values(key: str, values: list) -> list[str]:
    """Return how folders' names tell the values of a key apart.

    Files of the same name are told apart by what differs in their paths: runs/a/weights/best.pt is 'a' beside
    runs/b/weights/best.pt; or by their suffixes.

    Args:
        key (str): The key.
        values (list): Checked values.
    """
    names = [IN_NAMES[key](value) for value in values]
    if len({*names}) == len(names) or not all(isinstance(value, (str, Path)) for value in values):
        return names
    paths = [[part for part in _bare(value).parts if part != "/"] for value in values]
    if len({*map(tuple, paths)}) < len(paths):
        return [Path(value).name for value in values]
    first, last = (len(commonprefix(parts)) for parts in (paths, [path[::-1] for path in paths]))
    return ["-".join(path[first : max(len(path) - last, first)]) or path[-1] for path in paths]
