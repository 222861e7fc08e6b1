# SPDX-License-Identifier: AGPL-3.0-or-later
"""The picture of a sweep: accuracy against cost, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


@plt_settings()
def draw_sweep(result: dict[str, Any], file: Path) -> None:
    """Draw one panel per cost: fine-tuned models strong, models straight after the cut faint.

    Args:
        result (dict): 'metric' and 'rows', see `ultralytics.engine.compress.grid.table.compare_cells`.
        file (Path): PNG to write.
    """
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]  # keeps a label legible on the front's line
    rows, metric = result["rows"], result["metric"]
    labels = {key: label for key, label in AXES.items() if key in rows[0]}
    with picture(file, 1, len(labels), figsize=(5.5 * len(labels), 4.8), sharey=True, squeeze=False) as (figure, axes):
        for axis, (key, label) in zip(axes[0], labels.items()):
            cost, tuned = [row[key] for row in rows], [row[metric] for row in rows]
            front = pareto_front(list(zip(cost, tuned)))
            cut = [row[f"{metric} after the cut"] for row in rows[1:]]
            axis.scatter(cost[1:], cut, color=DENSE, label="after the cut")
            axis.plot([cost[i] for i in front], [tuned[i] for i in front], color=PRUNED, lw=1, label="Pareto front")
            axis.scatter(cost, tuned, color=PRUNED, zorder=3, label="dense and fine-tuned")
            axis.axhline(tuned[0], color=BASELINE, linestyle="--", linewidth=1)
            for x, y, row in zip(cost, tuned, rows):
                place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
                axis.annotate(row["model"], (x, y), **place, path_effects=halo)
            axis.set_xlabel(label)
            axis.margins(x=0.1, y=0.15)
            axis.set_xlim(left=0)
        axes[0, 0].set_ylabel(metric)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, **LEGEND)
