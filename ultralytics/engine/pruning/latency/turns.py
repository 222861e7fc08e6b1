# SPDX-License-Identifier: AGPL-3.0-or-later
"""Timing of functions in turns, and how two timings compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ultralytics.engine.pruning.latency.board.runs import switches, undisturbed_runs
from ultralytics.engine.pruning.latency.inference import inference_settings, synchronized_time
from ultralytics.utils import LOGGER, TQDM

UNRESOLVED = "not resolved"  # of a ratio, in words
INTERRUPTED = "Other work had the CPU during nearly all runs"  # of a timing
REPEATS, WARMUP = 30, 5  # timed rounds, and rounds before them that do not count


class Timing(NamedTuple):
    """Milliseconds of repeated runs: median, 10th and 90th percentile.

    Models are compared by the 10th percentile, which other work of the machine disturbs least. Where it had the CPU
    during nearly every run, the timing is 'interrupted': too long, and by how much depends on the model.
    """

    median: float
    low: float
    high: float
    interrupted: bool = False

    @classmethod
    def of(cls, seconds: Sequence[float], undisturbed: Sequence[bool] | None = None) -> Timing:
        """Return the milliseconds of repeated runs, given their seconds and which of them had the CPU for themselves.

        Disturbed runs count only if there are hardly any others.
        """
        alone = seconds if undisturbed is None else undisturbed_runs(seconds, undisturbed)
        low, median, high = (1e3 * float(q) for q in np.percentile(alone or seconds, (10, 50, 90)))
        return cls(median, low, high, not alone)


def latency_ratio(dense: Timing, pruned: Timing) -> float | None:
    """Return how many times faster a pruned model is, by the 10th percentiles.

    Args:
        dense (Timing): Timing of the dense model.
        pruned (Timing): Timing of the pruned model, measured in turns with the dense one.

    Returns:
        (float | None): Dense over pruned; None if the ranges from the 10th to the 90th percentile overlap, which leaves
            it open which model is faster, or if a timing was interrupted.
    """
    apart = pruned.high < dense.low or dense.high < pruned.low
    return dense.low / pruned.low if apart and not (dense.interrupted or pruned.interrupted) else None


@inference_settings()
def take_turns(
    runs: Mapping[str, Callable[[], Any]], device: torch.device, description: str, repeats: int = REPEATS
) -> dict[str, Timing]:
    """Time functions in turns, so that a drift of the machine's speed affects all of them alike.

    Args:
        runs (Mapping[str, Callable]): Name to function.
        device (torch.device): Device to wait for before and after each run.
        description (str): What the progress bar says.
        repeats (int): Timed rounds.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    undisturbed: dict[str, list[bool]] = {name: [] for name in runs}
    for i in TQDM(range(WARMUP + repeats), desc=description):
        for name, run in runs.items():
            before, start = switches(), synchronized_time(device)
            run()
            if i >= WARMUP:
                times[name].append(synchronized_time(device) - start)
                undisturbed[name].append(switches() == before)
    found = {name: Timing.of(times[name], undisturbed[name]) for name in runs}
    if busy := [name for name, timing in found.items() if timing.interrupted]:
        LOGGER.warning(
            f"{description}: other work had the CPU during nearly all runs of {', '.join(busy)}, so they took too long "
            f"by an amount that differs between models, and ratios to them are {UNRESOLVED}. Measure again when the "
            "machine has no other work."
        )
    return found
