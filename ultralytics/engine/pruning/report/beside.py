# SPDX-License-Identifier: AGPL-3.0-or-later
"""A model of another run that is more accurate and no slower, from the reports that lie beside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.report.read import read_report
from ultralytics.utils import LOGGER

MARGIN = 0.01  # of the metric, by which another model has to be better
ALIKE = ("metric", "data", "imgsz", "device", "threads")  # keys of reports whose figures can be compared


def better_beside(report: dict[str, Any], folder: Path, row: str, most: float) -> dict[str, Any] | None:
    """Find a model that other runs have measured on the same data and device, and that is the better choice.

    It is none of the run's own, and takes no more milliseconds in every runtime in which both were timed, of the same
    version. All rows of the other reports count, so it may be a dense model, of another size or family.

    Args:
        report (dict): Report of the run.
        folder (Path): Folder of the run; the reports of the folders beside it are read.
        row (str): Name of the model's row in the report.
        most (float): The highest metric that the model has or may come to, 0 to 1.

    Returns:
        (dict | None): 'weights', the metric by its name, 'ms' (runtime to its milliseconds) and 'instead_of' (those of
            the model), of the most accurate one; None if there is none that is better by `MARGIN`.
    """
    found: list[dict[str, Any] | None] = []
    for file in sorted(folder.parent.glob("*/report.json")):
        if file.parent == folder:
            continue
        try:
            other = read_report(file)
        except (OSError, ValueError) as error:
            LOGGER.warning(f"'{file}' is not compared with: {error}")
            continue
        if all(other.get(key) == report.get(key) for key in ALIKE):
            found += [_as_fast(report, row, other, name) for name in other["rows"]]
    own = {model["weights"] for model in report["rows"].values()}
    better = [m for m in found if m and m["weights"] not in own and m[report["metric"]] >= most + MARGIN]
    better = [model for model in better if Path(model["weights"]).is_file()]
    return max(better, key=lambda model: model[report["metric"]], default=None)


def _as_fast(report: dict[str, Any], row: str, other: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return a row of another report if its model takes no longer anywhere, None else."""
    times: dict[str, tuple[float, float]] = {}
    for runtime in RUNTIMES:
        if report.get("runtimes", {}).get(runtime) == other.get("runtimes", {}).get(runtime):
            its, own = _milliseconds(other, name, runtime), _milliseconds(report, row, runtime)
            if its and own:
                times[runtime] = its, own
    if not times or any(its > own for its, own in times.values()):
        return None
    weights, metric = (other["rows"][name][key] for key in ("weights", report["metric"]))
    ms, instead_of = ({runtime: pair[i] for runtime, pair in times.items()} for i in (0, 1))
    return {"weights": weights, report["metric"]: metric, "ms": ms, "instead_of": instead_of}


def _milliseconds(report: dict[str, Any], row: str, runtime: str) -> float | None:
    """Return the 10th percentile of a row's milliseconds, None if other work of the machine was timed with it."""
    if row in report.get("interrupted", {}).get(runtime, ()):  # reports of earlier versions do not say
        return None
    return report["rows"][row].get(f"{runtime}_latency_p10_ms")


def advice_of(better: dict[str, Any], metric: str) -> str:
    """Return in words that a model of another run is the better choice.

    Args:
        better (dict): What `better_beside` returned.
        metric (str): Name of the main metric.
    """
    times = ", ".join(
        f"{better['ms'][runtime]:.2f} ms instead of {own:.2f} in {RUNTIMES[runtime].label}"
        for runtime, own in better["instead_of"].items()
    )
    return f"take {better['weights']} instead, as its run measured it: {metric} {better[metric]:.3f}, {times}"
