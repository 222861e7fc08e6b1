# SPDX-License-Identifier: AGPL-3.0-or-later
"""The picture of a sweep: accuracy against cost, with the Pareto front."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.report.style import BASELINE, DENSE, LEGEND, PRUNED, picture
from ultralytics.utils import plt_settings

AXES = {  # key of a row: label
    "gflops": "GFLOPs at 640 pixels",
    **{f"{name}_latency_p10_ms": f"latency in {runtime.label} (ms)" for name, runtime in RUNTIMES.items()},
}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the points that no other one beats in both cost and accuracy; one that is not a number beats none.

    Args:
        points (Sequence[tuple[float, float]]): Cost and accuracy of each.

    Returns:
        (list[int]): Their indices, by rising cost.
    """
    front: list[int] = []
    measured = [i for i, (_, accuracy) in enumerate(points) if not math.isnan(accuracy)]
    for i in sorted(measured, key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


class Point(NamedTuple):
    """What a picture shows of a model, or of several that differ in nothing but their seed.

    Attributes:
        label (str): Its name.
        dense (str): Name of its dense model.
        is_dense (bool): It is a dense model.
        cost (float): Mean cost.
        accuracy (float): Mean accuracy.
        spread (tuple[float, float]): How far the seeds reach below and above it.
        cut (float): Mean accuracy after the cut.
    """

    label: str
    dense: str
    is_dense: bool
    cost: float
    accuracy: float
    spread: tuple[float, float]
    cut: float


def points_of(rows: Sequence[Mapping[str, Any]], cost: str, metric: str) -> list[Point]:
    """Return the points of a panel, seeds together.

    Args:
        rows (Sequence[Mapping]): Rows of one data set, see `ultralytics.engine.compress.grid.table.compare_cells`.
        cost (str): Key of the cost.
        metric (str): Key of the accuracy.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault(without_seed(row["model"], row.get("seed")), []).append(row)
    points = []
    for label, same in alike.items():
        dense = same[0].get("dense", "dense")
        found = [row[metric] for row in same]
        middle = fmean(found)
        points.append(
            Point(
                *(label, without_seed(dense, same[0].get("seed")), same[0]["model"] == dense),
                *(fmean(row[cost] for row in same), middle, (middle - min(found), max(found) - middle)),
                fmean(row[f"{metric} after the cut"] for row in same),
            )
        )
    return points


def without_seed(name: str, seed: int | None) -> str:
    """Return the name of a row without its seed."""
    return re.sub(rf"(^|-)seed{seed}(?=-|$)", "", name).strip("-") or "fine-tuned"


@plt_settings()
def draw_sweep(result: dict[str, Any], file: Path) -> None:
    """Draw one panel per cost and data set: fine-tuned models strong, models straight after the cut faint.

    Args:
        result (dict): 'metric' and 'rows', see `ultralytics.engine.compress.grid.table.compare_cells`.
        file (Path): PNG to write.
    """
    rows, metric = result["rows"], result["metric"]
    sets: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        sets.setdefault(row.get("data", ""), []).append(row)
    labels = {key: label for key, label in AXES.items() if key in rows[0]}
    size = (5.5 * len(labels), 4.8 * len(sets))
    with picture(file, len(sets), len(labels), figsize=size, sharey="row", squeeze=False) as (figure, axes):
        for (data, own), line in zip(sets.items(), axes):
            for axis, (key, label) in zip(line, labels.items()):
                draw_panel(axis, points_of(own, key, metric), Path(data).stem)
                axis.set_xlabel(label)
            line[0].set_ylabel(f"{metric} on {Path(data).stem}" if data else metric)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, **LEGEND)


def draw_panel(axis: Any, points: Sequence[Point], data: str) -> None:
    """Draw the points of a panel, a colour for each dense model and what was made of it.

    Args:
        axis (matplotlib.axes.Axes): Where.
        points (Sequence[Point]): The points.
        data (str): Name of the data set, if there are several.
    """
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]  # keeps a label legible on the front's line
    pruned = [point for point in points if not point.is_dense]
    axis.scatter([point.cost for point in pruned], [point.cut for point in pruned], color=DENSE, label="after the cut")
    front = [points[i] for i in pareto_front([(point.cost, point.accuracy) for point in points])]
    line = ([point.cost for point in front], [point.accuracy for point in front])
    axis.plot(*line, color=PRUNED, lw=1, label="Pareto front")
    families = list(dict.fromkeys(point.dense for point in points))
    for number, family in enumerate(families):
        own = [point for point in points if point.dense == family]
        cost, accuracy = [point.cost for point in own], [point.accuracy for point in own]
        alone = len(families) == 1
        color = PRUNED if alone else f"C{number}"
        label = "dense and fine-tuned" if alone else family.removesuffix("-dense").removesuffix(f"-{data}")
        axis.scatter(cost, accuracy, color=color, zorder=3, label=label)
        if any(sum(point.spread) for point in own):
            spread = list(zip(*(point.spread for point in own)))
            axis.errorbar(cost, accuracy, spread, fmt="none", ecolor=color, elinewidth=1)
        if alone:
            axis.axhline(accuracy[0], color=BASELINE, linestyle="--", linewidth=1)
    for point in points:
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        axis.annotate(
            point.label.removeprefix(point.dense.removesuffix("dense")),
            (point.cost, point.accuracy),
            **place,
            path_effects=halo,
        )
    axis.margins(x=0.1, y=0.15)
    axis.set_xlim(left=0)
