# SPDX-License-Identifier: AGPL-3.0-or-later
"""The picture of a deploy stage: accuracy of every file against milliseconds and bytes, with the Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.report.deployed import KINDS, kind_of, measured
from ultralytics.engine.pruning.report.style import LEGEND, PRUNED, picture
from ultralytics.engine.pruning.report.sweep_plot import pareto_front
from ultralytics.utils import plt_settings

AXES = {"p10_ms": "ms, batch 1 (10th percentile)", "size_mb": "size of the file (MB)"}
SHADES = ("#b8bfca", "#0b6bcb", "#d9a441", "#2e8b57", "#8e44ad", "#c06c84")
COLOURS = dict(zip(dict.fromkeys(KINDS.values()), SHADES))  # with layers in float, a kind keeps its colour


@plt_settings()
def draw_deployed(report: dict[str, Any], file: Path) -> None:
    """Draw one panel per cost: a colour per kind of model, the runtime as a label.

    Args:
        report (dict): With 'deploy', of which one file or more was measured.
        file (Path): PNG to write.
    """
    rows, metric = measured(report["deploy"]["rows"]), report["metric"]
    with picture(file, 1, len(AXES), figsize=(11, 5), sharey=True) as (figure, axes):
        for axis, (key, label) in zip(axes, AXES.items()):
            points = [(row[key], row[metric]) for row in rows]
            front = [points[i] for i in pareto_front(points)]
            axis.plot(*zip(*front), color=PRUNED, lw=1, label="Pareto front")
            for kind in dict.fromkeys(map(kind_of, rows)):
                own = [(point, row) for point, row in zip(points, rows) if kind_of(row) == kind]
                colour = COLOURS[KINDS[own[0][1]["model"], own[0][1]["quantised"]]]
                axis.scatter(*zip(*(point for point, _ in own)), color=colour, label=kind, zorder=3)
            for point, row in zip(points, rows):
                axis.annotate(row["label"], point, xytext=(4, 4), textcoords="offset points", fontsize=7)
            axis.set_xlabel(label)
            axis.set_xlim(left=0)
            axis.margins(x=0.15, y=0.15)
        axes[0].set_ylabel(metric)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, **LEGEND)
