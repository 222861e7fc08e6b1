# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runtimes in which latency can be measured, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import nn

from ultralytics.engine.pruning.latency.onnx_runtime import onnx_convolutions, onnx_latency, onnx_version
from ultralytics.engine.pruning.latency.pytorch import pytorch_convolutions, pytorch_latency, pytorch_version
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.engine.pruning.latency.turns import Timing


class Runtime(NamedTuple):
    """How latency is measured in a runtime.

    Attributes:
        label (str): Name for tables and messages.
        time_models (Callable): Models by name, image size and device to the `Timing` of each, batch 1.
        time_convolutions (Callable): Shapes and device to the milliseconds of each.
        version (Callable): Device to what times depend on besides the machine; it names the file of the latency table.
        packages (tuple[str, ...]): Packages that must be importable.
        on_cpu (bool): Runs on the CPU, whatever the device of the run.
    """

    label: str
    time_models: Callable[[dict[str, nn.Module], int, torch.device], dict[str, Timing]]
    time_convolutions: Callable[[Sequence[ConvShape], torch.device], list[float]]
    version: Callable[[torch.device], str]
    packages: tuple[str, ...] = ()
    on_cpu: bool = False

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]


RUNTIMES = {
    "pytorch": Runtime("PyTorch", pytorch_latency, pytorch_convolutions, pytorch_version),
    "onnx": Runtime(
        "ONNX Runtime", onnx_latency, onnx_convolutions, onnx_version, packages=("onnx", "onnxruntime"), on_cpu=True
    ),
}


def measure_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, dict[str, Timing]]:
    """Time models in turns in every runtime that is installed.

    Args:
        models (dict[str, nn.Module]): Name to model, unfused; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run, in runtimes that do not run on the CPU alone.

    Returns:
        (dict[str, dict[str, Timing]]): Runtime to name to milliseconds.
    """
    installed = {name: runtime for name, runtime in RUNTIMES.items() if not runtime.missing()}
    return {name: runtime.time_models(models, imgsz, device) for name, runtime in installed.items()}
