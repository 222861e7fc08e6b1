# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the formats of Ultralytics' exporter need to be made, run and timed on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from ultralytics.engine.compress.deploy.runners import (
    Opened,
    open_litert,
    open_mnn,
    open_ncnn,
    open_onnx,
    open_openvino,
    open_torchscript,
    open_with_ultralytics,
)
from ultralytics.engine.exporter import export_formats
from ultralytics.utils.checks import check_requirements

ONNX = ("onnx>=1.12.0,<2.0.0", "onnxslim>=0.1.82", "onnxruntime>=1.17.0")
BUILDS = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-qnn")}  # distributions that stand for another


class Needs(NamedTuple):
    """What a format needs, by the requirements of Ultralytics 8.4.190's exporter and back ends.

    Attributes:
        packages (tuple[str, ...]): Requirements to export it and to run the file.
        int8_packages (tuple[str, ...]): Those of an INT8 export besides.
        open (Callable): File, shape of the input, threads and device to an `Opened`.
    """

    packages: tuple[str, ...] = ()
    int8_packages: tuple[str, ...] = ()
    open: Callable[[Path, tuple[int, ...], int, torch.device], Opened] = open_with_ultralytics


NEEDS = {
    "torchscript": Needs(open=open_torchscript),
    "onnx": Needs(ONNX, open=open_onnx),
    "openvino": Needs(("openvino>=2024.0.0",), ("nncf>=2.14.0",), open_openvino),
    "litert": Needs(("litert-torch>=0.10.0", "ai-edge-litert>=2.3.0"), ("ai-edge-quantizer>=0.10.0",), open_litert),
    "ncnn": Needs(("ncnn", "pnnx==20260526"), open=open_ncnn),
    "mnn": Needs(("MNN>=2.9.6", *ONNX), open=open_mnn),
    "engine": Needs((*ONNX, "tensorrt>7.0.0"), ("nvidia-modelopt>=0.44",)),
    "executorch": Needs(("executorch",)),
    "paddle": Needs(("paddlepaddle", "x2paddle")),
}


class Format(NamedTuple):
    """A row of Ultralytics' table of export formats.

    Attributes:
        label (str): Name for tables.
        on_cpu (bool): The file runs on the CPU.
        on_gpu (bool): The file runs on a GPU.
        arguments (tuple[str, ...]): Arguments of an export that the format takes.
    """

    label: str
    on_cpu: bool
    on_gpu: bool
    arguments: tuple[str, ...]


def known_formats() -> dict[str, Format]:
    """Return the formats to which Ultralytics exports, by the name that its 'format' takes."""
    table = export_formats()
    columns = (table[name] for name in ("Argument", "Format", "CPU", "GPU", "Arguments"))
    return {name: Format(label, cpu, gpu, tuple(own)) for name, label, cpu, gpu, own in zip(*columns) if name != "-"}


def needs_gpu(name: str) -> bool:
    """Return True for a format whose files run on a GPU alone."""
    form = known_formats()[name]
    return form.on_gpu and not form.on_cpu


def missing_packages(name: str, int8: bool) -> list[str]:
    """Return the requirements of a format that are not installed; none are known for formats that are not in `NEEDS`.

    Args:
        name (str): Ultralytics' name of the format.
        int8 (bool): Quantised after training.
    """
    needs = NEEDS.get(name, Needs())
    wanted = needs.packages + needs.int8_packages * int8
    return [name for name in wanted if not check_requirements([(name, *_stand_ins(name))], install=False)]


def open_file(name: str, file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open an exported file in its runtime.

    Args:
        name (str): Ultralytics' name of the format.
        file (Path): The file, or the folder, that the export has made.
        shape (tuple[int, ...]): Shape of the input, (1, C, H, W).
        threads (int): Threads, in runtimes that can be told.
        device (torch.device): Where it runs, see `device_of`.

    Returns:
        (Opened): What runs it.
    """
    return NEEDS.get(name, Needs()).open(file, shape, threads, device)


def device_of(name: str, device: torch.device) -> torch.device:
    """Return where the files of a format are exported, validated and timed: on the CPU, if they run there at all."""
    return device if needs_gpu(name) else torch.device("cpu")


def _stand_ins(requirement: str) -> tuple[str, ...]:
    """Return other distributions that have what a requirement asks for."""
    return next((others for name, others in BUILDS.items() if requirement.startswith(name)), ())
