# SPDX-License-Identifier: AGPL-3.0-or-later
"""A search: the fastest model that loses no more accuracy than 'max_drop' allows, as runs from one dense model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import get_prune_cfg, read_sweep, refusing, split
from ultralytics.engine.compress.checks.cluster import Cluster
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.grid.folder import record_opened
from ultralytics.engine.compress.grid.job import Grid, Reports, make_grid
from ultralytics.engine.compress.grid.run import run_cells, run_on_a_worker, workers
from ultralytics.engine.compress.grid.table import compare_cells, image_size, write_table
from ultralytics.engine.compress.search.bisection import CEILING, TOLERANCE, Found, best_target, next_targets
from ultralytics.engine.compress.search.tries import Tries
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.report.table import export_command
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, colorstr
from ultralytics.utils.torch_utils import select_device

BACK_OFF = 0.9  # of the largest target, if what an error has called reachable is not
ROUNDING = 1e-9  # a metric that is short of what is wanted by no more is what is wanted


class Outcome(NamedTuple):
    """What is known of a search.

    Attributes:
        max_drop (float): Points of the main metric that may be lost.
        metric (str): Its name.
        reports (dict[str, dict]): Name of a cell to the report of its fine-tuning.
        found (dict[float, float]): Metric of each target.
    """

    max_drop: float
    metric: str
    reports: Reports
    found: Found

    @property
    def dense(self) -> float:
        """Return the metric of the dense model."""
        return next(iter(self.reports.values()))["rows"]["dense"][self.metric]

    @property
    def wanted(self) -> float:
        """Return the least metric that is accurate enough."""
        return self.dense - self.max_drop / 100 - ROUNDING

    def lost(self, target: float) -> float:
        """Return how many points the model of a target has lost, negative if it has won."""
        return 100 * (self.dense - self.found[target])

    @property
    def best(self) -> float:
        """Return the largest target whose model is accurate enough, or else that of the most accurate one."""
        return best_target(self.found, self.wanted) or max(self.found, key=lambda target: self.found[target])


def search(compressor: type[Compressor], args: dict[str, Any], callbacks: dict) -> dict[str, Any]:
    """Find the fastest model that loses at most 'max_drop' points of the main metric.

    Every try is an ordinary run with folders of its own. On Ray, those that may come next are made at the same time;
    the table is that of a search in turn. A search that is resumed takes up all that it has begun, also for another
    accuracy, and goes on from there.

    Args:
        compressor (type): Compressor class of the task.
        args (dict): Overrides of the configuration; 'max_drop' is set, 'name' is the search's.
        callbacks (dict): Callbacks of the training stages.

    Returns:
        (dict): See `compare_cells`, with 'points_lost' in every row; 'max_drop', 'met' (a model is accurate enough) and
            'weights' (of the fastest one, or of the most accurate if none is); as in search.json.

    Raises:
        ValueError: If an argument is not valid, or nothing can be pruned.
        FileNotFoundError: If 'resume' is set and there is no search to resume.
    """
    with refusing():
        own = split(args)[1]
        if lists := read_sweep(args):
            key, values = next(iter(lists.items()))
            raise ValueError(
                f"'max_drop={own['max_drop']}' is invalid with '{key}={values}'. A search needs one value of '{key}'."
            )
        check_search_on_ray(Cluster.of(args), own)
        max_drop = get_prune_cfg(own).max_drop
    args = {key: value for key, value in args.items() if key not in {"max_drop", "speed_up", "target"}}
    with record_opened(args, "search") as record:
        grid = make_grid({str(args["model"]): compressor}, args, callbacks, record)
        with workers(grid) as count:
            outcome = try_targets(grid, max_drop, Tries(record.folder, resumed=bool(record.runs)), count)
            result = run_on_a_worker(grid, describe, outcome, args)
        write_table(result, record.folder / "search", args.get("plots", DEFAULT_CFG_DICT["plots"]))
    tell(outcome, result, record.folder)
    return result


def check_search_on_ray(cluster: Cluster | None, own: Mapping[str, Any]) -> None:
    """Refuse settings of Ray that a search has no use for.

    Args:
        cluster (Cluster, optional): The settings.
        own (Mapping[str, Any]): Keys of the compress mode.

    Raises:
        ValueError: If there is one.
    """
    if cluster is None:
        return
    reasons = {
        "grace_period": "a search compares runs of different targets, and needs the end of each",
        "storage_path": "what a search tries depends on what it has tried, so that no two lists of its runs are alike",
    }
    for key, reason in reasons.items():
        if key == "grace_period" and cluster.grace_period is not None or key == "storage_path" and cluster.is_stored:
            raise ValueError(f"'{key}={own[key]}' is invalid with 'max_drop={own['max_drop']}': {reason}.")


def try_targets(grid: Grid, max_drop: float, tries: Tries, count: int = 1) -> Outcome:
    """Make the tries of a search, each when those before it are known, or ahead of that.

    Args:
        grid (Grid): What they have in common.
        max_drop (float): Points of the main metric that may be lost.
        tries (Tries): Which of them have begun before.
        count (int): Tries that can be made at the same time.
    """
    outcome = Outcome(max_drop, MAIN_METRIC[grid.args["task"]], {}, {})
    begun, ceiling, others = list(tries.begun), CEILING, tries.of_others(max_drop)
    ahead: Reports = {}  # reports of tries that nobody has asked for yet

    def coming() -> list[float]:
        wanted = outcome.wanted if outcome.reports else math.inf
        return begun[: count if outcome.reports else 1] or next_targets(outcome.found, wanted, ceiling, others, count)

    while targets := coming():
        target, *rest = targets
        begun = begun[1:]
        cell = cell_of(target, grid.args)
        tries.begin(target, max_drop)
        try:
            if cell.name not in ahead:
                later = (cell_of(one, grid.args) for one in rest)
                ahead |= run_cells(grid, largest_first([cell, *(one for one in later if one.name not in ahead)]))
            report = ahead.pop(cell.name)
        except OutOfReachError as error:
            reachable = error.reachable if ceiling == CEILING else min(error.reachable, BACK_OFF * ceiling)
            ceiling = math.floor(100 * reachable) / 100
            if ceiling < TOLERANCE:
                raise
            LOGGER.info(f"{colorstr('search:')} {error} The search goes up to {ceiling:g}.")
            continue
        outcome.reports[cell.name] = report
        outcome.found[target] = report["rows"]["fine-tuned"][outcome.metric]
        LOGGER.info(
            f"{colorstr('search:')} {cell.name}: {outcome.lost(target):.2f} of at most {max_drop:g} points of "
            f"{outcome.metric} lost"
        )
    return outcome


def largest_first(cells: list[Cell]) -> list[Cell]:
    """Return cells in the order in which a grid cuts them: one that is out of reach ends it before the others begin."""
    return sorted(cells, key=lambda cell: -cell.keys["speed_up"])


def cell_of(target: float, args: Mapping[str, Any]) -> Cell:
    """Return the run of a target.

    Args:
        target (float): The target.
        args (Mapping[str, Any]): Arguments of the search; their epochs are among the keys, or the record would note
            the run as '2', as a sweep does, not as '2x'.
    """
    epochs = args.get("epochs", DEFAULT_CFG_DICT["epochs"])
    return Cell(f"{target:g}x", {"speed_up": float(target), "epochs": epochs})


def describe(outcome: Outcome, args: dict[str, Any]) -> dict[str, Any]:
    """Return the tries of a search side by side, with latencies on the device of the process that does this.

    Args:
        outcome (Outcome): The search.
        args (dict[str, Any]): Its arguments.
    """
    device = select_device(args.get("device"), verbose=False)
    result = compare_cells(outcome.reports, outcome.metric, image_size(outcome.reports), device)
    targets = {cell_of(target, args).name: target for target in outcome.found}
    for row in result["rows"]:
        row["points_lost"] = outcome.lost(targets[row["model"]]) if row["model"] in targets else 0.0
    weights = outcome.reports[cell_of(outcome.best, args).name]["rows"]["fine-tuned"]["weights"]
    met = outcome.found[outcome.best] >= outcome.wanted
    return {**result, "max_drop": outcome.max_drop, "met": met, "weights": weights}


def tell(outcome: Outcome, result: dict[str, Any], folder: Any) -> None:
    """Log how a search has ended.

    Args:
        outcome (Outcome): The search.
        result (dict[str, Any]): What `describe` returned.
        folder (Path): Its folder.
    """
    best, prefix = outcome.best, colorstr("search:")
    figures = f"speed_up={best:g} loses {outcome.lost(best):.2f} of at most {outcome.max_drop:g} points"
    LOGGER.info(f"{prefix} {len(outcome.found)} tries, saved to {colorstr('bold', folder)}")
    if result["met"]:
        LOGGER.info(f"{prefix} {figures} of {outcome.metric}: {export_command(result['weights'], result['imgsz'])}")
    else:
        LOGGER.warning(
            f"{prefix} no try is accurate enough. The nearest, {figures} of {outcome.metric}: {result['weights']}. "
            "Fine-tune with more 'epochs' or a lower 'lr0', or allow more by 'max_drop'."
        )
