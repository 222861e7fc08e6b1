# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a fine-tuning will come to, told when half of its epochs are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.engine.compress.convergence import RISING, gain_of
from ultralytics.engine.compress.runs import moved

LEAST = 10  # epochs of a fine-tuning that has a first half to speak of
RISE = (0.015, 0.13)  # shares of the dense model's metric, gained in the second half: benchmarks/README.md#a-forecast
LOSS = 0.01  # of the metric, from which the model is said to stay behind the dense one


class Forecast(NamedTuple):
    """An interval for the best epoch of a fine-tuning.

    Attributes:
        epoch (int): Epoch after which it was made.
        low (float): Metric, from 0 to 1.
        high (float): Metric.
    """

    epoch: int
    low: float
    high: float

    def text(self, metric: str, dense: float) -> str:
        """Return it in words, with what to do if it is poor.

        Args:
            metric (str): Name of the metric.
            dense (float): The dense model's.
        """
        line = f"half of the epochs are over: expect {metric} {self.low:.3f} to {self.high:.3f} (dense {dense:.3f})"
        if self.high >= dense - LOSS:
            return line
        return f"{line}. The cut costs more than that: ask for a lower target, or fine-tune for more epochs"


def halfway(epochs: int) -> int:
    """Return the epoch after which a fine-tuning is forecast, 0 for one that is too short."""
    return epochs // 2 if epochs >= LEAST else 0


def forecast(values: Sequence[float], epochs: int, dense: float) -> Forecast | None:
    """Forecast the best epoch from those of the first half.

    How much the second half gains was measured for dense models that had converged: it is little, and much the same
    for all cuts, since it is mostly the falling learning rate. See `is_forecastable`.

    Args:
        values (Sequence[float]): The main metric by epoch, from 0 to 1, at least of the first half.
        epochs (int): Epochs of the whole fine-tuning.
        dense (float): The dense model's metric.

    Returns:
        (Forecast | None): None of a fine-tuning that is too short, or that was not validated in every epoch.
    """
    half = halfway(epochs)
    if not half or len(values) < half or max(values[:half]) <= 0:
        return None
    best = max(values[:half])
    return Forecast(half, best + RISE[0] * dense, best + RISE[1] * dense)


def forecast_of(
    curve: Mapping[str, Any] | None, epochs: int, dense: Mapping[str, Any], task: str, folder: Path
) -> Forecast | None:
    """Return the forecast of a run, None if there is none.

    Args:
        curve (Mapping[str, Any], optional): What `read_curve` returned.
        epochs (int): Epochs of the whole fine-tuning.
        dense (Mapping[str, Any]): The dense model's row of a report.
        task (str): Task of the model.
        folder (Path): Folder of the run that has cut the model, with which the dense model may have moved.
    """
    if curve is None or not is_forecastable(moved(dense["weights"], folder), task, epochs):
        return None
    return forecast(curve["values"], epochs, dense[curve["metric"]])


def is_forecastable(dense: Path, task: str, epochs: int) -> bool:
    """Return True for a dense model whose curve says that it had converged: cuts of another rise beyond it.

    Args:
        dense (Path): Checkpoint.
        task (str): Task of the model.
        epochs (int): Epochs of the fine-tuning.
    """
    gain = gain_of(dense, task, epochs) if dense.is_file() else None
    return gain is not None and gain < RISING
