# SPDX-License-Identifier: AGPL-3.0-or-later
"""Structured pruning as a library: model in, model out; it knows no trainer and no data set.

The way of a model: `graph` (which channels go together) → `ranking` (what a channel is worth) → `budget` (how many each
layer keeps) → `surgery` (slice the layers) → `checkpoint`. `prune.prune_model` walks it. Rooms import only from rooms
after them in the list `report`, `ranking`, `budget`, (`latency`, `sparsity`, `surgery`), `checkpoint`, `graph`, as
`tests/test_rooms.py` checks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget.target import Budget
    from .checkpoint.pruned import save_pruned
    from .checkpoint.record import Record
    from .prune import prune_model
    from .ranking.methods import METHODS
    from .surgery.oracle import largest_difference
    from .surgery.refit import refit

__all__ = ("METHODS", "Budget", "Record", "largest_difference", "prune_model", "refit", "save_pruned")

FACE = {  # public name: module that has it, imported when it is asked for
    "Budget": "budget.target",
    "METHODS": "ranking.methods",
    "Record": "checkpoint.record",
    "largest_difference": "surgery.oracle",
    "prune_model": "prune",
    "refit": "surgery.refit",
    "save_pruned": "checkpoint.pruned",
}


def __getattr__(name: str) -> Any:
    """Import a public name: importing Ultralytics must not import torch-pruning."""
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{FACE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *FACE]
