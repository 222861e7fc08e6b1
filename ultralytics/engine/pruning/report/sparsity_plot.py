# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the scales of all units are distributed, epoch by epoch: kept in a CSV file, drawn as one heat map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ultralytics.engine.pruning.files import read_csv, write_csv
from ultralytics.engine.pruning.report.style import ALARM, PRUNED, picture
from ultralytics.utils import plt_settings

DISTRIBUTION_FILE = "sparsity.csv"
BINS = 60


def append_distribution(file: Path, epoch: int, scales: torch.Tensor) -> None:
    """Add one epoch's histogram to the file, in place of that epoch and later ones from before an interruption.

    The first epoch fixes the bins, from 0 to its largest scale; the heading of a column is the upper edge of its bin,
    and the last bin takes what lies above.

    Args:
        file (Path): CSV file.
        epoch (int): Epoch, from 1.
        scales (torch.Tensor): Scale of every unit.
    """
    values = scales.cpu().double().numpy()
    rows = read_csv(file) if file.exists() else []
    largest = max(values.max(), 1e-6)
    headings = list(rows[0])[1:] if rows else [f"{edge:.6g}" for edge in np.linspace(0, largest, BINS + 1)[1:]]
    edges = np.array(headings, dtype=float)
    counts = np.bincount(np.searchsorted(edges[:-1], values, side="left"), minlength=BINS)
    shares = (f"{count / len(values):.6g}" for count in counts)
    earlier = [row for row in rows if int(row["epoch"]) < epoch]
    write_csv(file, [*earlier, {"epoch": epoch, **dict(zip(headings, shares))}])


def read_distribution(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read what `append_distribution` wrote.

    Args:
        file (Path): CSV file.

    Returns:
        epochs (np.ndarray): Epochs of shape (E,).
        edges (np.ndarray): Upper edges of the bins, shape (B,).
        shares (np.ndarray): Share of units in each bin, shape (E, B).
    """
    rows = read_csv(file)
    table = np.array([list(row.values()) for row in rows], dtype=float)
    return table[:, 0].astype(int), np.array(list(rows[0])[1:], dtype=float), table[:, 1:]


@plt_settings()
def plot_sparsity(
    file: Path, results: Path, title: str, small: float, on_plot: Callable[[Path], None] | None = None
) -> Path:
    """Draw the distribution over the epochs, and below it the share of small units and the regulariser's strength.

    Args:
        file (Path): CSV file of `append_distribution`.
        results (Path): The run's results.csv with the columns 'sparsity/share_small' and 'sparsity/reg'.
        title (str): Method and scale.
        small (float): Scale below which a unit counts as small.
        on_plot (Callable, optional): Told of the picture.

    Returns:
        (Path): The picture, beside the CSV file.
    """
    from matplotlib.colors import LogNorm  # scope for faster 'import ultralytics'

    epochs, edges, shares = read_distribution(file)
    rows = read_csv(results)
    columns = np.append(epochs - 0.5, epochs[-1] + 0.5)
    image = file.with_suffix(".png")
    with picture(image, 2, figsize=(9, 7), sharex=True, height_ratios=(3, 1)) as (figure, (top, bottom)):
        filled = np.ma.masked_equal(shares.T, 0)
        mesh = top.pcolormesh(columns, np.append(0, edges), filled, norm=LogNorm(1e-4, 1), cmap="viridis")
        top.axhline(small, color=ALARM, linewidth=1, linestyle="--", label=f"small: below {small}")
        top.set(title=title, ylabel="scale")
        top.legend(loc="upper right")
        x = [int(row["epoch"]) for row in rows]
        bottom.plot(x, [100 * float(row["sparsity/share_small"]) for row in rows], color=ALARM)
        bottom.set_ylabel("small units (%)", color=ALARM)
        bottom.set(xlabel="epoch", ylim=(0, 100))
        strength = bottom.twinx()
        strength.spines["top"].set_visible(False)
        strength.plot(x, [float(row["sparsity/reg"]) for row in rows], color=PRUNED, linestyle=":")
        strength.set_ylabel("strength", color=PRUNED)
        strength.set_ylim(0)
        figure.colorbar(mesh, ax=top, label="share of units")
    if on_plot:
        on_plot(image)
    return image
