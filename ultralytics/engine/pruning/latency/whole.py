# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency of whole models, measured side by side in PyTorch and ONNX Runtime."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.inference import memory_format
from ultralytics.engine.pruning.latency.onnx_session import open_session
from ultralytics.engine.pruning.latency.turns import Timing, take_turns
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.nn.tasks import guess_model_task

ONNX_PACKAGES = ("onnx", "onnxruntime")


def pytorch_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, Timing]:
    """Time a forward pass of each model, batch 1, FP32, fused and laid out in memory as for inference.

    Args:
        models (dict[str, nn.Module]): Name to model; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    image = image_for(models, imgsz, device)
    runs = {name: partial(m, image) for name, m in as_inference(models, device).items()}
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
            runs[name] = partial(session.run, None, feed)
        return take_turns(runs, torch.device("cpu"), "Latency in ONNX Runtime")


def as_inference(models: dict[str, nn.Module], device: torch.device) -> dict[str, nn.Module]:
    """Return copies of models by name as Ultralytics runs them: in evaluation mode, FP32, fused, laid out in memory."""
    layout = {"memory_format": memory_format(device)}
    copies = {name: deepcopy(m).to(device).float().eval() for name, m in models.items()}
    return {name: copy.fuse(verbose=False).to(**layout) for name, copy in copies.items()}


def image_for(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> torch.Tensor:
    """Return an image that all of the models take."""
    channels = next(iter(models.values())).yaml.get("channels", 3)
    return torch.rand(1, channels, imgsz, imgsz, device=device)
