# SPDX-License-Identifier: AGPL-3.0-or-later
"""ONNX Runtime on the CPU of a board; times of convolutions come from its own profile."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from onnx_file import convolutions_file, tag

RESOLUTION = 1e-3  # milliseconds, of its profile
AT_ONCE = 8  # convolutions in one session, whose outputs are all in memory


def version():
    """Return the runtime's version."""
    return f"onnxruntime-{onnxruntime.__version__}"


def open_network(file, threads, precision):
    """Return a function that runs a network once on a random image."""
    session, feed = _open(str(file), threads)
    return partial(session.run, None, feed)


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of each run of every convolution, in the memory layout of a whole network."""
    with tempfile.TemporaryDirectory() as folder:
        session, feed = _open(
            convolutions_file(shapes, int8=precision == "int8"), threads, str(Path(folder) / "profile")
        )
        for _ in repeats:
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times = []
    for i in range(len(shapes)):
        own = {}
        for event in events:
            if event["name"].startswith(tag(i)) and event["name"].endswith("_kernel_time"):
                own.setdefault(event["name"], []).append(event["dur"] / 1e3)
        times.append([sum(runs) for runs in zip(*own.values())])
    return times


def _open(model, threads, profile=""):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # a session's idle threads would spin on while another session is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    return session, {i.name: random.random(i.shape, dtype=np.float32) for i in session.get_inputs()}
