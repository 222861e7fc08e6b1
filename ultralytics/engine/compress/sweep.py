# SPDX-License-Identifier: AGPL-3.0-or-later
"""A sweep: a grid of runs from one dense model or several, and what they cost and keep side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ultralytics.cfg.compress.keys import refusing
from ultralytics.engine.compress.checks.cluster import Cluster
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.compress.grid.cells import read_cells
from ultralytics.engine.compress.grid.folder import record_opened
from ultralytics.engine.compress.grid.job import Reports, make_grid
from ultralytics.engine.compress.grid.origins import Origin, check_cells, origins_of
from ultralytics.engine.compress.grid.run import run_cells, run_on_a_worker
from ultralytics.engine.compress.grid.table import compare_cells, image_size, save_sweep, write_table
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.torch_utils import select_device


def sweep(compressors: Mapping[str, type[Compressor]], args: dict[str, Any], callbacks: dict) -> dict[str, Any]:
    """Compress with every combination of the values of keys that are lists.

    What cells share is done once: for each model and data set the base training of a YAML and the validation of the
    dense model, and a sparsity training and a sensitivity map that do not depend on the target, see `Shared`.

    Args:
        compressors (Mapping[str, type]): Model to the compressor class of its family and task.
        args (dict): Overrides of the configuration; 'speed_up' or others are lists, 'name' is the sweep's.
        callbacks (dict): Callbacks of the training stages.

    Returns:
        (dict): See `compare_cells`, dense models first; as in sweep.json.

    Raises:
        ValueError: If a target is not valid or out of reach.
        FileNotFoundError: If 'resume' is set and there is no sweep to resume.
    """
    with refusing():
        cells = read_cells(args)
        Cluster.of(args)
    metric = MAIN_METRIC[args["task"]]
    plots = args.get("plots", DEFAULT_CFG.plots)
    with record_opened(args, "sweep") as record:
        grid = make_grid(compressors, args, callbacks, record)
        with refusing():
            check_cells(grid, cells)
        origins = origins_of(grid, cells)

        def show(reports: Reports) -> None:
            write_table(
                compare_cells(reports, metric, image_size(reports), None, origins), record.folder / "progress", plots
            )

        reports = run_cells(grid, cells, show)
        result = run_on_a_worker(grid, compare_on, reports, metric, args.get("device"), origins)
        save_sweep(result, record.folder, plots)
    return result


def compare_on(reports: Reports, metric: str, device: Any, origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Return the table of all cells, their latencies measured on a device of the process that does this."""
    return compare_cells(reports, metric, image_size(reports), select_device(device, verbose=False), origins)
