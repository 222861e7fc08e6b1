# SPDX-License-Identifier: AGPL-3.0-or-later
"""The table of a grid: what its models cost and keep side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.grid.origins import Origin
from ultralytics.engine.pruning.checkpoint.qat import float_copy
from ultralytics.engine.pruning.checkpoint.record import versions
from ultralytics.engine.pruning.files import write_csv, write_json
from ultralytics.engine.pruning.latency.runtimes import measure_latency
from ultralytics.engine.pruning.latency.turns import Timing
from ultralytics.engine.pruning.report.sweep_plot import draw_sweep
from ultralytics.engine.pruning.report.table import export_command
from ultralytics.utils import LOGGER, colorstr

VARIED = {"model": "source", "data": "data", "seed": "seed"}  # key in which cells differ: its column
SCHEMA = 2  # layout of the table; 1 had no number, medians for latencies and 'speed_up' for the ratio of FLOPs


def image_size(reports: Mapping[str, dict]) -> int:
    """Return the image size in pixels of the reports of cells, in which all agree."""
    return next(iter(reports.values()))["imgsz"]


def compare_cells(
    reports: Mapping[str, dict],
    metric: str,
    imgsz: int,
    device: torch.device | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> dict[str, Any]:
    """Put the models of all cells side by side, their latencies measured in turns.

    Args:
        reports (Mapping[str, dict]): Name of a cell to the report of its fine-tuning.
        metric (str): Name of the main metric.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device, optional): Where the latency is measured; without one it is not.
        origins (Mapping[str, Origin], optional): Name of a cell to what its row is compared with; by default, all have
            the dense model of the first report.

    Returns:
        (dict): 'schema' (number of this layout), 'versions' (of this package and others), 'metric', 'imgsz' and 'rows',
            one per model, whose latencies are 10th percentiles; dense models stand before the rows of the first cell
            that has them. Where cells differ in 'model', 'data' or 'seed', rows have the value; and in 'dense' the name
            of the row of their dense model, unless there is one that is called so.
    """
    places = places_of(reports, origins or {})
    last = {place.name: place.report["rows"]["dense" if place.is_dense else "fine-tuned"] for place in places}
    latency: dict[str, dict[str, Timing]] = {}
    if device is not None:
        models = {name: float_copy(load_checkpoint(Path(row["weights"]))[0]) for name, row in last.items()}
        latency, _ = measure_latency(models, imgsz, device)
    rows = []
    for place in places:
        row = last[place.name]
        cut = place.report["rows"]["dense" if place.is_dense else "pruned"]
        rows.append(
            {
                "model": place.name,
                **place.varied,
                "flops_ratio": last[place.dense]["gflops"] / row["gflops"],
                "gflops": row["gflops"],
                "parameters": row["parameters"],
                **{f"{runtime}_latency_p10_ms": timings[place.name].low for runtime, timings in latency.items()},
                f"{metric} after the cut": cut[metric],
                metric: row[metric],
                "weights": row["weights"],
            }
        )
    return {"schema": SCHEMA, "versions": versions(), "metric": metric, "imgsz": imgsz, "rows": rows}


class Place(NamedTuple):
    """A row of the table before its figures are in it."""

    name: str
    dense: str
    varied: dict[str, Any]
    report: dict[str, Any]

    @property
    def is_dense(self) -> bool:
        """Return True for the row of a dense model."""
        return self.name == self.dense


def places_of(reports: Mapping[str, dict], origins: Mapping[str, Origin]) -> list[Place]:
    """Return the rows of the table in their order; dense models are those of the first report that has them."""
    places: dict[str, Place] = {}
    for name, report in reports.items():
        origin = origins.get(name, Origin("dense", {}, {}))
        for of_row, varied in ((origin.dense, origin.dense_varied), (name, origin.varied)):
            shown = {VARIED[key]: value for key, value in varied.items()}
            shown |= {"dense": origin.dense} if varied or origin.dense != "dense" else {}
            places.setdefault(of_row, Place(of_row, origin.dense, shown, report))
    return list(places.values())


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
        cells = (f"{row[k]:,.4g}" if isinstance(row[k], (int, float)) else str(row[k]) for k in columns)
        lines.append("".join(f"{cell:>24}" for cell in cells))
    table = "\n".join(lines)
    LOGGER.info(f"\n{table}\nSweep saved to {colorstr('bold', folder)}")
    metric = result["metric"]
    pruned = [row for row in rows if row["model"] != row.get("dense", "dense")]
    if worse := [row["model"] for row in pruned if row[metric] < row[f"{metric} after the cut"]]:
        LOGGER.warning(
            f"{', '.join(worse)}: fine-tuning ended below the model straight after the cut. Fine-tune with more "
            "'epochs' or a lower 'lr0'."
        )
    for row in pruned:
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
