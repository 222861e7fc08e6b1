# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the second half of a fine-tuning gains, and whether the forecast that is made before it holds.

    python benchmarks/forecast.py runs/peers_trees runs/peers_shapes8 runs/deploy_cells

Reads the fine-tunings below some folders, whichever benchmark has made them: their report.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fetch import markdown

from ultralytics.engine.compress.forecast import forecast, is_forecastable
from ultralytics.engine.compress.runs import moved
from ultralytics.utils import LOGGER


def read_runs(folders: list[Path]) -> list[dict[str, Any]]:
    """Return the fine-tunings of detectors that can be forecast, each curve once."""
    runs: dict[tuple, dict[str, Any]] = {}
    for file in sorted(f for folder in folders for f in folder.rglob("report.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        curve, dense = report.get("curve"), report["rows"].get("dense")
        if not curve or not dense or "quantised" in report["rows"] or curve["metric"] != "mAP50-95":
            continue
        values, epochs = curve["values"], len(curve["values"])
        found = forecast(values, epochs, dense["mAP50-95"])
        if found is None:
            continue
        half, best = max(values[: found.epoch]), max(values)
        runs[tuple(values)] = {
            "run": file.parent.name,
            "converged": is_forecastable(moved(dense["weights"], file.parent), "detect", epochs),
            "epochs": epochs,
            "dense": dense["mAP50-95"],
            "half": half,
            "best": best,
            "gain": (best - half) / dense["mAP50-95"],
            "held": found.low <= best <= found.high,
        }
    return [*runs.values()]


def table(runs: list[dict[str, Any]]) -> str:
    """Return the fine-tunings as a Markdown table."""
    rows = [
        [run["run"], str(run["epochs"]), *(f"{run[key]:.3f}" for key in ("dense", "half", "best", "gain"))]
        + ["yes" if run["held"] else "no", "" if run["converged"] else "no forecast is made"]
        for run in runs
    ]
    return markdown(["fine-tuning", "epochs", "dense", "half-way", "best", "gain / dense", "held", ""], rows)


def main() -> None:
    """Print the table, and how often the forecast held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of runs")
    runs = read_runs(parser.parse_args().folders)
    for converged, name in ((True, "had converged"), (False, "was rising, or has no curve that says more")):
        own = [run for run in runs if run["converged"] == converged]
        gains = sorted(run["gain"] for run in own)
        if own:
            held = sum(run["held"] for run in own)
            LOGGER.info(f"dense {name}: held in {held} of {len(own)}, gains {gains[0]:.3f} to {gains[-1]:.3f}")
    LOGGER.info(f"\n{table(runs)}")


if __name__ == "__main__":
    main()
