# SPDX-License-Identifier: AGPL-3.0-or-later
"""The labels of points in a picture, moved apart where they would lie on one another."""

from __future__ import annotations

from itertools import count
from typing import Any

LEADER = {"arrowstyle": "-", "linewidth": 0.5, "color": "#888888", "shrinkA": 4, "shrinkB": 3}


def part_labels(figure: Any) -> None:
    """Move the labels of points up or down, each to the nearest place that no label before it takes.

    A thin line leads to those that are no longer next to their point.

    Args:
        figure (matplotlib.figure.Figure): Its layout is computed here; what changes it comes before.
    """
    from matplotlib.text import Annotation

    if not any(isinstance(text, Annotation) for axis in figure.axes for text in axis.texts):
        return
    figure.draw_without_rendering()
    for axis in figure.axes:
        taken: list[Any] = []
        for label in sorted((text for text in axis.texts if isinstance(text, Annotation)), key=lambda text: text.xy):
            x, y = label.xyann  # points
            height = label.get_window_extent().height * 72 / figure.dpi
            for step in count():
                away = y + step // 2 * height
                label.xyann = (x, -away - height if step % 2 else away)  # in turns above and below its point
                place = label.get_window_extent()
                if not any(place.overlaps(other) for other in taken):
                    break
            taken.append(place)
            if step > 1:
                middle = label.xyann[1] + height / 2
                axis.annotate("", label.xy, (x, middle), textcoords=label.anncoords, arrowprops=LEADER, zorder=1)
