# SPDX-License-Identifier: AGPL-3.0-or-later
"""The table of a grid: what its models cost and keep side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.checkpoint.qat import float_copy
from ultralytics.engine.pruning.checkpoint.record import versions
from ultralytics.engine.pruning.files import write_csv, write_json
from ultralytics.engine.pruning.latency.runtimes import measure_latency
from ultralytics.engine.pruning.report.sweep_plot import draw_sweep
from ultralytics.engine.pruning.report.table import export_command
from ultralytics.utils import LOGGER, colorstr

SCHEMA = 2  # layout of the table; 1 had no number, medians for latencies and 'speed_up' for the ratio of FLOPs


def image_size(reports: Mapping[str, dict]) -> int:
    """Return the image size in pixels of the reports of cells, in which all agree."""
    return next(iter(reports.values()))["imgsz"]


def compare_cells(
    reports: Mapping[str, dict], metric: str, imgsz: int, device: torch.device | None = None
) -> dict[str, Any]:
    """Put the models of all cells side by side, their latencies measured in turns.

    Args:
        reports (Mapping[str, dict]): Name of a cell to the report of its fine-tuning.
        metric (str): Name of the main metric.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device, optional): Where the latency is measured; without one it is not.

    Returns:
        (dict): 'schema' (number of this layout), 'versions' (of this package and others), 'metric', 'imgsz' and 'rows',
            one per model, the dense one first, whose latencies are 10th percentiles.
    """
    reports = {"dense": next(iter(reports.values())), **reports}
    last = {name: report["rows"]["dense" if name == "dense" else "fine-tuned"] for name, report in reports.items()}
    latency = {}
    if device is not None:
        models = {name: float_copy(load_checkpoint(Path(row["weights"]))[0]) for name, row in last.items()}
        latency = measure_latency(models, imgsz, device)
    rows = []
    for name, row in last.items():
        cut = reports[name]["rows"]["dense" if name == "dense" else "pruned"]
        rows.append(
            {
                "model": name,
                "flops_ratio": last["dense"]["gflops"] / row["gflops"],
                "gflops": row["gflops"],
                "parameters": row["parameters"],
                **{f"{runtime}_latency_p10_ms": timings[name].low for runtime, timings in latency.items()},
                f"{metric} after the cut": cut[metric],
                metric: row[metric],
                "weights": row["weights"],
            }
        )
    return {"schema": SCHEMA, "versions": versions(), "metric": metric, "imgsz": imgsz, "rows": rows}


def save_sweep(result: dict[str, Any], folder: Path, plots: bool) -> None:
    """Write sweep.json, sweep.csv and the picture, and log the table and how to deploy the models.

    Args:
        result (dict): What `compare_cells` returned.
        folder (Path): Where they go.
        plots (bool): Draw the picture.
    """
    write_table(result, folder / "sweep", plots)
    for file in folder.glob("progress.*"):
        file.unlink()
    rows = result["rows"]
    columns = [key for key in rows[0] if key != "weights"]
    lines = ["".join(f"{key:>24}" for key in columns)]
    for row in rows:
        cells = (row[k] if isinstance(row[k], str) else f"{row[k]:,.4g}" for k in columns)
        lines.append("".join(f"{cell:>24}" for cell in cells))
    table = "\n".join(lines)
    LOGGER.info(f"\n{table}\nSweep saved to {colorstr('bold', folder)}")
    metric = result["metric"]
    if worse := [row["model"] for row in rows[1:] if row[metric] < row[f"{metric} after the cut"]]:
        LOGGER.warning(
            f"{', '.join(worse)}: fine-tuning ended below the model straight after the cut. Fine-tune with more "
            "'epochs' or a lower 'lr0'."
        )
    for row in rows[1:]:
        LOGGER.info(f"Deploy {row['model']}, for example: {export_command(row['weights'], result['imgsz'])}")


def write_table(result: dict[str, Any], stem: Path, plots: bool) -> None:
    """Write the table as JSON and CSV, and its picture.

    Args:
        result (dict): What `compare_cells` returned.
        stem (Path): Path of the files without their suffixes, i.e. 'sweep' of a finished grid, 'progress' before.
        plots (bool): Draw the picture.
    """
    write_json(stem.with_suffix(".json"), result)
    write_csv(stem.with_suffix(".csv"), result["rows"])
    if plots:
        draw_sweep(result, stem.with_suffix(".png"))
