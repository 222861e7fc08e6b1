# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runtime 'pytorch': latency of models and of single convolutions in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import nn

from ultralytics.engine.pruning.graph.image_size import image_channels
from ultralytics.engine.pruning.latency.inference import inference_settings, memory_format, synchronized_time
from ultralytics.engine.pruning.latency.shapes import REPEATS, WARMUP, ConvShape
from ultralytics.engine.pruning.latency.turns import Timing, take_turns


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


def pytorch_convolutions(shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
    """Time convolutions in PyTorch, FP32, batch 1, with the memory layout that they have in a whole network.

    Args:
        shapes (Sequence[ConvShape]): Convolutions with their activations.
        device (torch.device): Where to run.

    Returns:
        (list[float]): Milliseconds of each, the fastest of some runs.
    """
    layout = memory_format(device)
    times = []
    with torch.no_grad(), inference_settings():
        for shape in shapes:
            module = _module(shape).to(device).eval().to(memory_format=layout)
            image = torch.rand(1, *shape.input_size, device=device).to(memory_format=layout)
            runs = []
            for _ in range(WARMUP + REPEATS):
                begin = synchronized_time(device)
                module(image)
                runs.append(synchronized_time(device) - begin)
            times.append(1e3 * min(runs[WARMUP:]))
    return times


def pytorch_version(device: torch.device) -> str:
    """Return what times depend on besides the machine, i.e. 'torch-2.9.0-channels_last'."""
    return f"torch-{torch.__version__}-{str(memory_format(device)).removeprefix('torch.')}"


def as_inference(models: dict[str, nn.Module], device: torch.device) -> dict[str, nn.Module]:
    """Return copies of models by name as Ultralytics runs them: in evaluation mode, FP32, fused, laid out in memory."""
    layout = {"memory_format": memory_format(device)}
    copies = {name: deepcopy(m).to(device).float().eval() for name, m in models.items()}
    return {name: copy.fuse(verbose=False).to(**layout) for name, copy in copies.items()}


def image_for(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> torch.Tensor:
    """Return an image that all of the models take."""
    return torch.rand(1, image_channels(next(iter(models.values()))), imgsz, imgsz, device=device)


def _module(shape: ConvShape) -> nn.Module:
    make = nn.ConvTranspose2d if shape.transposed else nn.Conv2d
    channels = shape.input_size[0]
    groups = channels if shape.depthwise else 1
    place = {"stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation, "groups": groups}
    conv = make(channels, shape.outputs, shape.kernel, **place)
    return nn.Sequential(conv, getattr(nn, shape.activation)()) if shape.activation else conv
