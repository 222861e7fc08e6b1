# SPDX-License-Identifier: AGPL-3.0-or-later
"""Repeated runs, and which of them count."""

from __future__ import annotations

import importlib.util
import time

import numpy as np

WARMUP, REPEATS = 3, 10  # runs that do not count, and runs that do
LEAST = 0.2  # share of the runs of a network that must have been undisturbed for them to count alone
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Runs:
    """Runs that a runtime iterates over; those count during which no other process had the CPU.

    Attributes:
        clock (Callable): Returns seconds.
    """

    def __init__(self, clock):
        """Take a clock."""
        self.clock, self.undisturbed = clock, []

    def __len__(self):
        return WARMUP + REPEATS

    def __iter__(self):
        for _ in range(len(self)):
            before = switches()
            yield
            self.undisturbed.append(switches() == before)

    def were_too_long(self):
        """Return True if convolutions that ran one after the other in every run were interrupted in all of them."""
        masks = np.array(self.undisturbed).reshape(-1, len(self))
        return len(masks) == 1 and not masks[0, WARMUP:].any()

    def low_and_median(self, times):
        """Return the lowest and the median time of every convolution, shape (convolutions, 2).

        Disturbed runs count only if there are no others.

        Args:
            times (list[list[float]]): Milliseconds of each run of every convolution. Either each of them iterated over
                the runs, one after the other, or all at once, or the runtime did not iterate at all.
        """
        masks = np.array(self.undisturbed or [True] * len(self)).reshape(-1, len(self))
        masks = np.broadcast_to(masks, (len(times), len(self)))[:, WARMUP:]
        found = []
        for runs, mask in zip(np.array(times)[:, WARMUP:], masks):
            alone = runs[mask] if mask.any() else runs
            found.append([alone.min(), np.median(alone)])
        return np.array(found)


def undisturbed_runs(times, undisturbed):
    """Return the times of those runs during which no other process had the CPU, none if these are too few.

    The kernel gives each process some milliseconds in turn: a network that takes longer is interrupted in every run and
    one that takes less in few, so that their ratio says nothing.

    Args:
        times (list[float]): Time of each run.
        undisturbed (list[bool]): Whether each run had the CPU for itself.
    """
    alone = [time for time, quiet in zip(times, undisturbed) if quiet]
    return alone if len(alone) >= LEAST * len(times) else []


def switches():
    """Return how often the kernel has taken the CPU away from this process, 0 where nothing tells."""
    if not importlib.util.find_spec("resource"):  # on Windows
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
