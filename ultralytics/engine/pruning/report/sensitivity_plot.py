# SPDX-License-Identifier: AGPL-3.0-or-later
"""The heat map of a sensitivity measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.ranking.sensitivity import RATIOS
from ultralytics.engine.pruning.report.style import picture
from ultralytics.utils import plt_settings


@plt_settings()
def draw_sensitivity(rows: list[dict[str, Any]], metric: str, file: Path) -> None:
    """Draw the drop of accuracy by layer and share of channels removed, in the order of the network.

    Args:
        rows (list[dict]): What `measure_sensitivity` returned.
        metric (str): Name of the accuracy.
        file (Path): PNG to write.
    """
    drops = {(row["layers"], row["ratio"]): row["drop"] for row in rows}
    names = list(dict.fromkeys(row["layers"] for row in rows if row["layers"]))
    grid = [[drops[name, ratio] for ratio in RATIOS] for name in names]
    top = max(max(map(max, grid)), 1e-9)
    with picture(file, figsize=(9, 1.5 + 0.24 * len(names))) as (figure, axis):
        image = axis.imshow(grid, cmap="Reds", vmin=0, vmax=top, aspect="auto")
        for y, line in enumerate(grid):
            for x, drop in enumerate(line):
                colour = "w" if drop > top / 2 else "k"
                axis.text(x, y, f"{drop:.3f}", ha="center", va="center", fontsize=7, color=colour)
        axis.set_xticks(range(len(RATIOS)), [f"{ratio:.0%}" for ratio in RATIOS])
        axis.set_yticks(range(len(names)), [short_name(name) for name in names], fontsize=7)
        axis.set_xlabel("share of this layer's channels removed, all others kept")
        figure.colorbar(image, label=f"drop of {metric}", shrink=min(1.0, 12 / len(names)))


def short_name(layers: str) -> str:
    """Return the first of several layer names and how many more there are."""
    first, *others = layers.split()
    return f"{first} (+{len(others)})" if others else first
