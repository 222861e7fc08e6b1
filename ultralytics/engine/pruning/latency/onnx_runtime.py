# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runtime 'onnx': latency of models and of single convolutions in ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.compress.compat.export import traced_export
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.board.onnx_file import convolutions_file, tag
from ultralytics.engine.pruning.latency.shapes import REPEATS, WARMUP, ConvShape
from ultralytics.engine.pruning.latency.turns import Timing, take_turns
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.nn.tasks import guess_model_task

if TYPE_CHECKING:
    import onnxruntime


def onnx_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device | None = None) -> dict[str, Timing]:
    """Time a run of each model in ONNX Runtime on the CPU, batch 1, FP32, with as many threads as torch uses.

    Args:
        models (dict[str, nn.Module]): Name to model, unfused; copies are exported by Ultralytics to a temporary folder.
        imgsz (int): Image size in pixels.
        device (torch.device, optional): Unused: ONNX Runtime runs on the CPU.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    threads = torch.get_num_threads()
    # ONNX Runtime optimises the graph by itself when it loads it
    settings = {"format": "onnx", "imgsz": imgsz, "batch": 1, "simplify": False, "device": "cpu", "verbose": False}
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, model) in enumerate(models.items()):
            copy = deepcopy(model).cpu().float()
            copy.task = guess_model_task(copy)
            copy.pt_path = str(Path(folder) / f"{i}.pt")  # where the exporter puts the ONNX file
            try:
                with traced_export(), warnings_only():  # which would concern a file that is deleted at once
                    file = Exporter(overrides=settings)(model=copy)
            finally:
                torch.set_num_threads(threads)  # the exporter sets Ultralytics' own number
            session, feed = open_session(file, threads)
            runs[name] = partial(session.run, None, feed)
        return take_turns(runs, torch.device("cpu"), "Latency in ONNX Runtime")


def onnx_convolutions(shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
    """Time convolutions in ONNX Runtime on the CPU, FP32, batch 1, with as many threads as torch uses.

    All of them are nodes of one graph, and their times come from ONNX Runtime's own profile: so they have the memory
    layout that ONNX Runtime gives them in a whole network, and changes of layout do not count.

    Args:
        shapes (Sequence[ConvShape]): Convolutions with their activations.
        device (torch.device): Unused: ONNX Runtime runs on the CPU.

    Returns:
        (list[float]): Milliseconds of each, the fastest of some runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        session, feed = open_session(
            convolutions_file(shapes), torch.get_num_threads(), profile=Path(folder) / "profile"
        )
        for _ in range(WARMUP + REPEATS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times = []
    for i in range(len(shapes)):
        own: dict[str, list[float]] = {}
        for event in events:
            if event["name"].startswith(tag(i)) and event["name"].endswith("_kernel_time"):
                own.setdefault(event["name"], []).append(event["dur"])
        times.append(1e-3 * sum(min(runs[WARMUP:]) for runs in own.values()))
    return times


def onnx_version(device: torch.device | None = None) -> str:
    """Return the version; builds for GPUs install under other names of the distribution."""
    import onnxruntime

    return f"onnxruntime-{onnxruntime.__version__}"


def open_session(
    model: str | bytes, threads: int, profile: Path | None = None, shape: tuple[int, ...] = ()
) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    """Open a model on the CPU.

    Args:
        model (str | bytes): ONNX file or its content.
        threads (int): Threads inside an operator.
        profile (Path, optional): Write a profile of every run to files that begin so.
        shape (tuple[int, ...]): Of the image, for a file that takes any.

    Returns:
        session (onnxruntime.InferenceSession): Session.
        feed (dict[str, np.ndarray]): A random input of FP32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # a session's idle threads would spin on while another session is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    sizes = {i.name: i.shape if all(isinstance(n, int) for n in i.shape) else shape for i in session.get_inputs()}
    return session, {name: random.random(size, dtype=np.float32) for name, size in sizes.items()}
