# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency of models, measured side by side: whole networks in PyTorch and ONNX Runtime, and their blocks."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.inference import inference_settings, memory_format, synchronized_time
from ultralytics.engine.pruning.latency.onnx_session import open_session
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.nn.tasks import guess_model_task
from ultralytics.utils import TQDM

REPEATS, WARMUP = 30, 5  # timed rounds, and rounds before them that do not count
ONNX_PACKAGES = ("onnx", "onnxruntime")


class Timing(NamedTuple):
    """Milliseconds of repeated runs: median, 10th and 90th percentile.

    Models are compared by the 10th percentile, which other work of the machine disturbs least.
    """

    median: float
    low: float
    high: float


def latency_ratio(dense: Timing, pruned: Timing) -> float | None:
    """Return how many times faster a pruned model is, by the 10th percentiles.

    Args:
        dense (Timing): Timing of the dense model.
        pruned (Timing): Timing of the pruned model, measured in turns with the dense one.

    Returns:
        (float | None): Dense over pruned; None if the ranges from the 10th to the 90th percentile overlap, which leaves
            it open which model is faster.
    """
    apart = pruned.high < dense.low or dense.high < pruned.low
    return dense.low / pruned.low if apart else None


@inference_settings()
def take_turns(
    runs: dict[str, Callable[[], None]], device: torch.device, description: str, repeats: int = REPEATS
) -> dict[str, Timing]:
    """Time functions in turns, so that a drift of the machine's speed affects all of them alike.

    Args:
        runs (dict[str, Callable]): Name to function.
        device (torch.device): Device to wait for before and after each run.
        description (str): What the progress bar says.
        repeats (int): Timed rounds.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in TQDM(range(WARMUP + repeats), desc=description):
        for name, run in runs.items():
            start = synchronized_time(device)
            run()
            if i >= WARMUP:
                times[name].append(synchronized_time(device) - start)
    return {name: _timing(t) for name, t in times.items()}


def pytorch_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, Timing]:
    """Time a forward pass of each model, batch 1, FP32, fused and laid out in memory as for inference.

    Args:
        models (dict[str, nn.Module]): Name to model; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    image = _image(models, imgsz, device)
    runs = {name: lambda m=m: m(image) for name, m in _fused(models, device).items()}
    with torch.no_grad():
        return take_turns(runs, device, "Latency in PyTorch")


def missing_for_onnx() -> list[str]:
    """Return the packages that `onnx_latency` lacks."""
    return [name for name in ONNX_PACKAGES if find_spec(name) is None]


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
            with warnings_only():  # the export's progress and advice concern a file that is deleted at once
                file = Exporter(overrides=settings)(model=copy)
            session, feed = open_session(file, threads)
            torch.set_num_threads(threads)  # the exporter sets Ultralytics' own number
            runs[name] = lambda session=session, feed=feed: session.run(None, feed)
        return take_turns(runs, torch.device("cpu"), "Latency in ONNX Runtime")


def block_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Time the top-level blocks of each model in PyTorch, batch 1, FP32, fused, the models taking turns.

    Args:
        models (dict[str, nn.Module]): Name to model; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run.

    Returns:
        (dict[str, dict[str, float]]): Name to block, i.e. '4 C2f', to the 10th percentile of its milliseconds.
    """
    image = _image(models, imgsz, device)
    fused = _fused(models, device)
    times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in models}

    def watch(name: str, index: int, block: nn.Module) -> Iterator:
        label = f"{index} {type(block).__name__}"
        begin = [0.0]

        def before(*_) -> None:
            begin[0] = synchronized_time(device)

        def after(*_) -> None:
            times[name][label].append(synchronized_time(device) - begin[0])

        yield block.register_forward_pre_hook(before)
        yield block.register_forward_hook(after)

    for name, model in fused.items():
        for index, block in enumerate(model.model):
            list(watch(name, index, block))
    with torch.no_grad():
        take_turns({name: lambda m=m: m(image) for name, m in fused.items()}, device, "Latency of blocks")
    return {name: {label: _timing(t[WARMUP:]).low for label, t in blocks.items()} for name, blocks in times.items()}


def _timing(seconds: list[float]) -> Timing:
    """Return the milliseconds of repeated runs."""
    low, median, high = (1e3 * float(q) for q in np.percentile(seconds, (10, 50, 90)))
    return Timing(median, low, high)


def _fused(models: dict[str, nn.Module], device: torch.device) -> dict[str, nn.Module]:
    """Return copies as inference uses them."""
    layout = {"memory_format": memory_format(device)}
    copies = {name: deepcopy(m).to(device).float().eval() for name, m in models.items()}
    return {name: copy.fuse(verbose=False).to(**layout) for name, copy in copies.items()}


def _image(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> torch.Tensor:
    """Return an image that all of the models take."""
    channels = next(iter(models.values())).yaml.get("channels", 3)
    return torch.rand(1, channels, imgsz, imgsz, device=device)
