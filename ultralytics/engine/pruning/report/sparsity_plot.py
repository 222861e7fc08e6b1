# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the scales of all units are distributed, epoch by epoch: kept in a CSV file, drawn as one heat map."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ultralytics.utils.plotting import plt_settings

BINS = 60


def append_distribution(file: Path, epoch: int, scales: torch.Tensor) -> None:
    """Write one epoch's histogram behind the earlier ones.

    The first epoch fixes the bins, from 0 to its largest scale; the heading of a column is the upper edge of its bin,
    and the last bin takes what lies above.

    Args:
        file (Path): CSV file.
        epoch (int): Epoch, from 1.
        scales (torch.Tensor): Scale of every unit.
    """
    values = scales.cpu().double().numpy()
    new = not file.exists()
    edges = np.linspace(0, max(values.max(), 1e-6), BINS + 1)[1:] if new else read_distribution(file)[1]
    counts = np.bincount(np.searchsorted(edges[:-1], values, side="left"), minlength=BINS)
    with open(file, "a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        if new:
            writer.writerow(["epoch", *(f"{edge:.6g}" for edge in edges)])
        writer.writerow([epoch, *(f"{count / len(values):.6g}" for count in counts)])


def read_distribution(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read what `append_distribution` wrote.

    Args:
        file (Path): CSV file.

    Returns:
        epochs (np.ndarray): Epochs of shape (E,); of an epoch written twice, as after a recovery, the last counts.
        edges (np.ndarray): Upper edges of the bins, shape (B,).
        shares (np.ndarray): Share of units in each bin, shape (E, B).
    """
    with open(file, newline="", encoding="utf-8") as f:
        heading, *rows = csv.reader(f)
    by_epoch = {int(row[0]): row[1:] for row in rows}
    shares = np.array(list(by_epoch.values()), dtype=float).reshape(len(by_epoch), len(heading) - 1)
    return np.array(list(by_epoch)), np.array(heading[1:], dtype=float), shares


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
    import matplotlib.pyplot as plt  # scope for faster 'import ultralytics'
    from matplotlib.colors import LogNorm

    epochs, edges, shares = read_distribution(file)
    with open(results, newline="", encoding="utf-8") as f:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(f)]
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, height_ratios=(3, 1), layout="constrained")
    columns = np.append(epochs - 0.5, epochs[-1] + 0.5)
    mesh = top.pcolormesh(
        columns, np.append(0, edges), np.ma.masked_equal(shares.T, 0), norm=LogNorm(1e-4, 1), cmap="viridis"
    )
    top.axhline(small, color="tab:red", linewidth=1, linestyle="--", label=f"small: below {small}")
    top.set_title(title)
    top.set_ylabel("scale")
    top.legend(loc="upper right")
    x = [int(row["epoch"]) for row in rows]
    bottom.plot(x, [100 * float(row["sparsity/share_small"]) for row in rows], color="tab:red")
    bottom.set_ylabel("small units (%)", color="tab:red")
    bottom.set_ylim(0, 100)
    bottom.set_xlabel("epoch")
    strength = bottom.twinx()
    strength.plot(x, [float(row["sparsity/reg"]) for row in rows], color="tab:blue", linestyle=":")
    strength.set_ylabel("strength", color="tab:blue")
    strength.set_ylim(0)
    fig.colorbar(mesh, ax=top, label="share of units")
    picture = file.with_suffix(".png")
    fig.savefig(picture, dpi=150)
    plt.close(fig)
    if on_plot:
        on_plot(picture)
    return picture
