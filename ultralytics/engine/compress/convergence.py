# SPDX-License-Identifier: AGPL-3.0-or-later
"""Whether a training had come to its end: read from the curve that Ultralytics keeps in its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, TypeGuard

from ultralytics.engine.compress.evaluation import MAIN_METRIC, TASK_METRICS
from ultralytics.engine.compress.reading import read
from ultralytics.utils import LOGGER, colorstr

LEAST = 5  # measured epochs: a steady rise of fewer may be chance
WINDOW = 8  # epochs of a slope, where a third has fewer
ENOUGH = 0.5  # of the dense model's epochs; with fewer even half its FLOPs stay behind it, see benchmarks/README.md
RISING = 0.02  # gain of the main metric from which a teacher holds its student back, see benchmarks/README.md
SIGNIFICANT = 1.645  # standard deviations of Kendall's S, 5% of curves without a trend


def curve_of(checkpoint: Mapping[str, Any], task: str) -> list[float]:
    """Return a training's main metric by epoch, as its checkpoint has it, up to where mosaic was closed.

    The metric rises by that alone: the pictures are those of the validation from then on.

    Args:
        checkpoint (Mapping[str, Any]): What a .pt file holds, possibly of another origin.
        task (str): Task of the model.

    Returns:
        (list[float]): Finite values; of an epoch that was trained twice, after a resume, the last. Empty if the
            checkpoint has no curve; leading zeros, of epochs without a validation, are left out.
    """
    results = checkpoint.get("train_results")
    column = TASK_METRICS[task][MAIN_METRIC[task]]
    if not isinstance(results, Mapping):
        return []
    table = {str(name).strip(): values for name, values in results.items()}
    epochs, values = table.get("epoch"), table.get(column)
    if not isinstance(epochs, Sequence) or not isinstance(values, Sequence):
        return []
    end = _mosaic_closed(checkpoint.get("train_args"))
    rows = ((epoch, value) for epoch, value in zip(epochs, values) if _is_finite(epoch) and _is_finite(value))
    numbers = {epoch: value for epoch, value in rows if epoch <= end}
    curve = [float(numbers[epoch]) for epoch in sorted(numbers)]
    begin = next((i for i, value in enumerate(curve) if value > 0), len(curve))
    return curve[begin:]


def _mosaic_closed(args: Any) -> float:
    """Return the last epoch of a training with mosaic, infinity for one that had none, or had it to its end."""
    keys = ("mosaic", "close_mosaic", "epochs")
    mosaic, last, epochs = (args.get(key) if isinstance(args, Mapping) else None for key in keys)
    if not (_is_finite(mosaic) and _is_finite(last) and _is_finite(epochs)):
        return math.inf
    return epochs - last if mosaic > 0 and 0 < last < epochs else math.inf


def expected_gain(curve: Sequence[float], epochs: int) -> float | None:
    """Return how much more a training would have gained by going on, as far as its curve says.

    A curve is rising if its best epoch is in its last quarter and Kendall's S over its last third, the number of pairs
    of epochs that rise less those that fall, is significant (Mann 1945, https://doi.org/10.2307/1907187). What it gains
    is the median slope of these pairs (Sen 1968, https://doi.org/10.1080/01621459.1968.10480934) times `epochs`, at
    most as many as the slope was taken from: curves flatten.

    Args:
        curve (Sequence[float]): Metric by epoch.
        epochs (int): For how many epochs it would go on.

    Returns:
        (float | None): Gain of the metric, 0 for a curve that is not rising; None for one that is too short to tell.
    """
    if len(curve) < LEAST:
        return None
    last = curve[-max(len(curve) // 3, WINDOW) :]
    best = max(range(len(curve)), key=lambda epoch: curve[epoch])
    if best < len(curve) - math.ceil(len(curve) / 4):
        return 0.0
    n = len(last)
    rises = [(last[j] - last[i]) / (j - i) for i, j in combinations(range(n), 2)]
    balance = sum((rise > 0) - (rise < 0) for rise in rises)
    if balance - 1 < SIGNIFICANT * math.sqrt(n * (n - 1) * (2 * n + 5) / 18):
        return 0.0
    return median(rises) * min(epochs, n)


def epochs_of(checkpoint: Mapping[str, Any]) -> int:
    """Return for how many epochs a checkpoint's training went on, as its curve says, or else its arguments.

    Args:
        checkpoint (Mapping[str, Any]): What a .pt file holds, possibly of another origin.

    Returns:
        (int): Number of epochs, 0 if it is not known.
    """
    results, args = checkpoint.get("train_results"), checkpoint.get("train_args")
    found = results.get("epoch") if isinstance(results, Mapping) else None
    found = found or (args.get("epochs") if isinstance(args, Mapping) else None)
    numbers = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    return int(max((number for number in numbers if _is_finite(number)), default=0))


def tell_of_epochs(checkpoint: Mapping[str, Any], epochs: int) -> None:
    """Log that a fine-tuning is short beside the training of the dense model.

    Args:
        checkpoint (Mapping[str, Any]): The dense model's.
        epochs (int): Epochs of the fine-tuning.
    """
    trained = epochs_of(checkpoint)
    if epochs < ENOUGH * trained:
        LOGGER.info(
            f"{colorstr('compress:')} epochs={epochs}, and the dense model was trained for {trained}. Cuts to half of "
            f"the FLOPs were as good as it after half as many, 'epochs={round(ENOUGH * trained)}'; larger need more"
        )


def gain_of(file: str | Path, task: str, epochs: int) -> float | None:
    """Return how much more the training of a checkpoint would have gained by going on, see `expected_gain`.

    Args:
        file (str | Path): Checkpoint.
        task (str): Task of the model.
        epochs (int): For how many epochs it would go on.
    """
    return expected_gain(curve_of(read(file).checkpoint, task), epochs)


def _is_finite(value: Any) -> TypeGuard[float]:
    """Return True for a number that is finite."""
    return isinstance(value, (int, float)) and math.isfinite(value)
