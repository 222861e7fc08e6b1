# SPDX-License-Identifier: AGPL-3.0-or-later
"""The course of a fine-tuning: after how many epochs, and how long, it was as good as the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from ultralytics.engine.pruning.report.deployed import QUANTISED


def seconds_by_epoch(clock: Sequence[float]) -> list[float]:
    """Return the seconds of training until the end of each epoch.

    Args:
        clock (Sequence[float]): What Ultralytics notes after each epoch, which begins at 0 again when a run is resumed.
    """
    steps = (now - before if now >= before else now for before, now in pairwise([0.0, *clock]))
    return list(accumulate(steps))


def passed_dense(curve: dict[str, Any], dense: float) -> dict[str, float] | None:
    """Return the first epoch that was at least as good as the dense model.

    Args:
        curve (dict[str, Any]): 'epochs', 'values' of the main metric and, where known, 'seconds' of training.
        dense (float): The dense model's metric.

    Returns:
        (dict[str, float] | None): 'epoch', and 'seconds' where known; None if there is no such epoch.
    """
    first = next((i for i, value in enumerate(curve["values"]) if value >= dense), None)
    if first is None:
        return None
    found = {"epoch": curve["epochs"][first]}
    return {**found, "seconds": curve["seconds"][first]} if curve.get("seconds") else found


def course_of(report: dict[str, Any]) -> list[str]:
    """Return the line that tells when the last training has passed the dense model, and what was expected of it."""
    curve = report["curve"]
    if not curve or not curve["values"]:
        return []
    training = "quantization-aware training" if QUANTISED in report["rows"] else "fine-tuning"
    dense, last = report["rows"]["dense"][curve["metric"]], curve["epochs"][-1]
    expected = ""
    if forecast := report.get("forecast"):
        expected = f" {forecast['low']:.3f} to {forecast['high']:.3f} was expected after epoch {forecast['epoch']}."
    if found := passed_dense(curve, dense):
        after = f", after {found['seconds'] / 60:.1f} minutes" if "seconds" in found else ""
        return [
            f"{training.capitalize()} was first as good as the dense model in epoch {found['epoch']} of {last}{after}."
            + expected
        ]
    best = max(curve["values"])
    epoch = curve["epochs"][curve["values"].index(best)]
    behind = f"No epoch of {training} was as good as the dense model: the best, {epoch} of {last}, has {best:.4f}."
    return [f"{behind}{expected}"]
