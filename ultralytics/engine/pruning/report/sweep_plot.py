# SPDX-License-Identifier: AGPL-3.0-or-later
"""The picture of a sweep: accuracy against cost, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.files import written_whole
from ultralytics.utils import plt_settings

COSTS = {  # key of a row: label
    "gflops": "GFLOPs at 640 pixels",
    "latency_ms": "latency in PyTorch (ms)",
    "onnx_latency_ms": "latency in ONNX Runtime (ms)",
}
FRONT, FAINT = "#0b6bcb", "#b8bfca"


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
    """Draw one panel per cost: fine-tuned models strong, straight after the cut faint.

    Args:
        result (dict): 'metric' and 'rows', see `ultralytics.engine.compress.sweep.compare_targets`.
        file (Path): PNG to write.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]  # keeps a label legible on the front's line
    rows, metric = result["rows"], result["metric"]
    costs = {key: label for key, label in COSTS.items() if key in rows[0]}
    fig, axes = plt.subplots(1, len(costs), figsize=(5.5 * len(costs), 4.8), sharey=True)
    for axis, (key, label) in zip(axes, costs.items()):
        cost, tuned = [row[key] for row in rows], [row[metric] for row in rows]
        front = pareto_front(list(zip(cost, tuned)))
        axis.scatter(cost[1:], [row[f"{metric} after the cut"] for row in rows[1:]], color=FAINT, label="after the cut")
        axis.plot([cost[i] for i in front], [tuned[i] for i in front], color=FRONT, linewidth=1, label="Pareto front")
        axis.scatter(cost, tuned, color=FRONT, zorder=3, label="dense and fine-tuned")
        axis.axhline(tuned[0], color="#333333", linestyle="--", linewidth=1)
        for x, y, row in zip(cost, tuned, rows):
            axis.annotate(
                row["model"], (x, y), xytext=(0, 7), textcoords="offset points", ha="center", path_effects=halo
            )
        axis.set_xlabel(label)
        axis.margins(x=0.1, y=0.15)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(metric)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="upper left", ncols=3, frameon=False)
    fig.tight_layout(rect=(0, 0, 1, 0.93))
    with written_whole(file) as temporary:
        fig.savefig(temporary, dpi=150, format="png")
    plt.close(fig)
