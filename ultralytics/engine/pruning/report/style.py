# SPDX-License-Identifier: AGPL-3.0-or-later
"""What every picture shares: colours, frame, layout, and how it is saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.report.labels import part_labels

DENSE, PRUNED, ALARM, BASELINE = "#b8bfca", "#0b6bcb", "#c2410c", "#333333"
LEGEND = {"frameon": False}
DPI = 150


@contextmanager
def picture(file: Path, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes to draw on; write the PNG, whole, when the block ends without an error.

    Args:
        file (Path): PNG to write.
        rows (int): Rows of axes.
        columns (int): Columns of axes.
        **settings (Any): Passed on to `matplotlib.pyplot.subplots`.

    Yields:
        figure (matplotlib.figure.Figure): The figure.
        axes (matplotlib.axes.Axes | np.ndarray): Its axes, an array if there are several.
    """
    import matplotlib.pyplot as plt  # scope for faster 'import ultralytics'

    figure, axes = plt.subplots(rows, columns, layout="constrained", **settings)
    try:
        for axis in np.ravel(axes):
            axis.spines[["top", "right"]].set_visible(False)
        yield figure, axes
        part_labels(figure)
        with written_whole(file) as temporary:
            figure.savefig(temporary, dpi=DPI, format="png")
    finally:
        plt.close(figure)
