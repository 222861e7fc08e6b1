# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runtimes in which latency can be measured, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import nn

from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.elsewhere import Elsewhere
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_convolutions, onnx_latency, onnx_version
from ultralytics.engine.pruning.latency.pytorch import pytorch_convolutions, pytorch_latency, pytorch_version
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.engine.pruning.latency.turns import Timing
from ultralytics.nn.modules.block import ImagePoolingAttn
from ultralytics.utils import LOGGER


class Runtime(NamedTuple):
    """How latency is measured in a runtime.

    Attributes:
        label (str): Name for tables and messages.
        time_models (Callable): Models by name, image size and device to the `Timing` of each, batch 1.
        time_convolutions (Callable): Shapes and device to the milliseconds of each.
        version (Callable): Device to what times depend on besides the machine; it names the file of the latency table.
        packages (tuple[str, ...]): Packages that must be importable.
        on_cpu (bool): Runs on the CPU, whatever the device of the run.
        at_once (bool): All convolutions are timed in one call, which has a progress of its own.
        reported (bool): Every report measures it, if it is installed; else only that of a run whose budget it is.
        precisions (tuple[str, ...]): Precisions that it can measure.
    """

    label: str
    time_models: Callable[[dict[str, nn.Module], int, torch.device], dict[str, Timing]]
    time_convolutions: Callable[[Sequence[ConvShape], torch.device], list[float]]
    version: Callable[[torch.device], str]
    packages: tuple[str, ...] = ()
    on_cpu: bool = False
    at_once: bool = False
    reported: bool = True
    precisions: tuple[str, ...] = ("fp32",)

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]

    def refusal(self, model: nn.Module) -> str:
        """Return why a model cannot be measured, an empty string if it can."""
        first_world = self.packages and any(isinstance(m, ImagePoolingAttn) for m in model.modules())
        return "Ultralytics exports YOLO-World's second version alone, and this is its first" if first_world else ""


DISTRIBUTIONS = {
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "litert_torch": "litert-torch",
}  # package: where it is another name


def distribution(package: str) -> str:
    """Return what pip calls a package."""
    return DISTRIBUTIONS.get(package, package)


def elsewhere(runtime: str, label: str, package: str) -> Runtime:
    """Return the row of a runtime that is measured in a process of its own.

    Args:
        runtime (str): A key of `KITS`.
        label (str): Name for tables and messages.
        package (str): What the runtime is imported by.
    """
    where, kit = Elsewhere(runtime), KITS[runtime]
    return Runtime(
        label,
        where.time_models,
        where.time_convolutions,
        where.version,
        packages=tuple(dict.fromkeys((*kit.exporters, package))),
        on_cpu=True,
        at_once=True,
        reported=False,
        precisions=kit.precisions,
    )


RUNTIMES = {
    "pytorch": Runtime("PyTorch", pytorch_latency, pytorch_convolutions, pytorch_version),
    "onnx": Runtime(
        "ONNX Runtime",
        onnx_latency,
        onnx_convolutions,
        onnx_version,
        packages=("onnx", "onnxruntime"),
        on_cpu=True,
        precisions=KITS["onnx"].precisions,
    ),
    "openvino": elsewhere("openvino", "OpenVINO", "openvino"),
    "ncnn": elsewhere("ncnn", "ncnn", "ncnn"),
    "mnn": elsewhere("mnn", "MNN", "MNN"),
    "litert": elsewhere("litert", "LiteRT", "ai_edge_litert"),
}


def runtime_at(name: str, runner: str = "", precision: str = "fp32") -> Runtime:
    """Return a runtime with what it measures on another device or in another precision.

    Args:
        name (str): A key of `RUNTIMES`.
        runner (str): Command in front of a shell's on the device, i.e. 'ssh pi@board'; '' for this machine.
        precision (str): One of the runtime's precisions.
    """
    row = RUNTIMES[name]
    if not runner and precision == "fp32":
        return row
    where = Elsewhere(name, runner, precision)
    return row._replace(
        time_models=where.time_models,
        time_convolutions=where.time_convolutions,
        version=where.version,
        on_cpu=True,
        at_once=True,
    )


def measure_latency(
    models: dict[str, nn.Module], imgsz: int, device: torch.device, also: str = ""
) -> tuple[dict[str, dict[str, Timing]], dict[str, str]]:
    """Time models in turns in every runtime that is installed and reported, and can run them.

    What an exporter or a runtime raises is a reason why a model was not measured there: PyTorch trains networks that
    have no other form.

    Args:
        models (dict[str, nn.Module]): Name to model, unfused; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run, in runtimes that do not run on the CPU alone.
        also (str): A budget, whose runtime is reported whatever its row says.

    Returns:
        latency (dict[str, dict[str, Timing]]): Runtime to name to milliseconds.
        unmeasured (dict[str, str]): Every other of these runtimes to the reason, as reports have it.
    """
    wanted = {name: runtime for name, runtime in RUNTIMES.items() if runtime.reported or name == also}
    latency: dict[str, dict[str, Timing]] = {}
    unmeasured = {}
    for name, runtime in wanted.items():
        if missing := runtime.missing():
            unmeasured[name] = f"not measured, not installed: {', '.join(missing)}"
            continue
        refusal = next(filter(None, map(runtime.refusal, models.values())), "")
        try:
            if not refusal:
                latency[name] = runtime.time_models(models, imgsz, device)
        except Exception as error:
            if not runtime.packages:  # PyTorch itself
                raise
            refusal = f"{type(error).__name__}: {error}"
        if refusal:
            LOGGER.warning(f"No latency in {runtime.label}: {refusal}")
            unmeasured[name] = f"not measured: {refusal}"
    return latency, unmeasured
