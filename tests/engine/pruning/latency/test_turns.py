# SPDX-License-Identifier: AGPL-3.0-or-later
"""Timings beside other work: runs that it interrupts do not count, and without others no ratio is told."""

import os
import subprocess
import sys
import time

import pytest
import torch

from ultralytics.engine.pruning.latency.turns import Timing, latency_ratio, take_turns

CPU = torch.device("cpu")
LONG, SHORT = 0.03, 0.0005  # seconds of work: the kernel's turns are some milliseconds


def work(seconds):
    """Compute for some seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def shared_core():
    """Share one core with a process that never waits."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes cannot be bound to a core here")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()
    os.sched_setaffinity(0, cores)


def test_what_other_work_interrupts_in_every_run_has_no_ratio(shared_core, log):
    """A model that took 5.2 ms by itself took 8.9 ms beside a training, and one of 2.6 ms still took 2.6."""
    timings = take_turns({"dense": lambda: work(LONG), "pruned": lambda: work(SHORT)}, CPU, "Latency of x", 20)
    dense, pruned = timings["dense"], timings["pruned"]
    assert dense.interrupted and dense.low > 1e3 * LONG
    assert latency_ratio(dense, pruned) is None
    assert "Latency of x: other work had the CPU during nearly all runs of dense" in log.text


def test_interrupted_runs_count_only_without_others():
    seconds = [0.001] * 4 + [0.005] * 16
    some = Timing.of(seconds, [True] * 4 + [False] * 16)
    assert some == (1.0, 1.0, 1.0, False)
    few = Timing.of(seconds, [True] * 3 + [False] * 17)
    assert few.interrupted and few.median == 5.0
    assert not Timing.of(seconds).interrupted
    assert latency_ratio(few, Timing(0.1, 0.1, 0.1)) is None
    assert latency_ratio(some, Timing(0.1, 0.1, 0.1)) == pytest.approx(10.0)
