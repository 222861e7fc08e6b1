# SPDX-License-Identifier: AGPL-3.0-or-later
"""The bundle: a folder with all that a device needs to measure a model's latency, and nothing of this package."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ultralytics.engine.pruning.checkpoint.record import source_of
from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.networks import EXPORTS, INT8_EXPORTS
from ultralytics.engine.pruning.latency.shapes import ConvShape, Widths

BOARD = Path(__file__).with_name("board")
SCHEMA = 1  # of bundle.json
HALVES = {"half": True, "even": False}  # networks of half the FLOPs in a first bundle: globally pruned, or every layer
ALWAYS = ("measure.py", "device.py", "runs.py")  # scripts of every bundle


class Kit(NamedTuple):
    """What a bundle for a runtime needs.

    Attributes:
        scripts (tuple[str, ...]): Files of `board`, besides those of every bundle.
        install (str): What the device needs, as pip calls it or in words.
        precisions (tuple[str, ...]): In which it can compute.
        exporters (tuple[str, ...]): Packages that must be importable where the bundle is written.
        quantisers (tuple[str, ...]): Packages besides, that write networks in INT8, unless the device can.
    """

    scripts: tuple[str, ...]
    install: str
    precisions: tuple[str, ...] = ("fp32",)
    exporters: tuple[str, ...] = ("onnx",)
    quantisers: tuple[str, ...] = ()

    def missing(self, precision: str = "fp32") -> list[str]:
        """Return the packages that are not installed here.

        Args:
            precision (str): One of the precisions.
        """
        needed = (*self.exporters, *self.quantisers) if precision == "int8" else self.exporters
        return [name for name in needed if find_spec(name) is None]


KITS = {
    "onnx": Kit(("runtime_onnx.py", "onnx_file.py"), "onnxruntime", ("fp32", "int8"), quantisers=("onnxruntime",)),
    "openvino": Kit(
        ("runtime_openvino.py", "onnx_file.py"), "openvino", ("fp32", "fp16", "int8"), quantisers=("openvino", "nncf")
    ),
    "ncnn": Kit(("runtime_ncnn.py",), "ncnn", ("fp32", "fp16"), ("pnnx", "ncnn")),
    "mnn": Kit(("runtime_mnn.py",), "MNN", ("fp32", "fp16"), ("onnx", "MNN")),
    "litert": Kit(
        ("runtime_litert.py",),
        "ai-edge-litert",
        ("fp32", "int8"),
        ("litert_torch", "ai_edge_litert"),
        ("ai_edge_quantizer",),
    ),
    "tensorrt": Kit(("runtime_tensorrt.py", "onnx_file.py"), "", ("fp32", "fp16", "int8")),
}
README = """Measure this folder on the device:

    python3 -m pip install numpy {install}
    python3 measure.py{options}

It writes answer.json, which goes back to where the model is pruned:

    yolo compress model=... data=... imgsz={imgsz} budget=answer.json

python3 measure.py --help has threads, precision and more.
"""


def write_bundle(
    folder: Path,
    runtime: str,
    models: Mapping[str, nn.Module],
    shapes: Sequence[Sequence[ConvShape]],
    imgsz: int,
    *,
    precision: str = "fp32",
    threads: int = 1,
    measured: Mapping[str, Sequence[float]] | None = None,
    measured_as: Mapping[str, Any] | None = None,
    predicted: Mapping[str, float] | None = None,
    widths: Mapping[str, Widths] | None = None,
) -> Path:
    """Write a bundle.

    Args:
        folder (Path): Where it goes.
        runtime (str): A key of `KITS`.
        models (Mapping[str, nn.Module]): Name to stock model, unfused: whole networks, the dense one first.
        shapes (Sequence[Sequence[ConvShape]]): Convolutions, those together that differ in their widths alone.
        imgsz (int): Image size in pixels.
        precision (str): In which it is measured if the device is not told otherwise.
        threads (int): With how many threads, likewise; 0 for as many as the device has cores.
        measured (Mapping[str, Sequence[float]], optional): Key of a `ConvShape` to what the device has answered before.
        measured_as (Mapping[str, Any], optional): Under which 'version', 'precision', 'threads' and name of a 'device'.
        predicted (Mapping[str, float], optional): Name of a network to the milliseconds of its convolutions by a table.
        widths (Mapping[str, Widths], optional): Name of a network to the widths that pruning has left.

    Returns:
        (Path): The folder.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "runtime": runtime,
        "precision": precision,
        "precisions": precisions_of(runtime, precision),
        "threads": threads,
        "imgsz": imgsz,
        "model": next((source_of(model) for model in models.values()), {}),
        "fields": ConvShape._fields,
        "convolutions": [[(shape.key, tuple(shape)) for shape in group] for group in shapes],
        "measured": dict(measured or {}),
        "measured_as": dict(measured_as or {}),
        "predicted": dict(predicted or {}),
        "widths": dict(widths or {}),
    }
    same = [*content.items(), *((name, _architecture(model)) for name, model in models.items())]
    content["id"] = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    export = INT8_EXPORTS.get(runtime, EXPORTS[runtime]) if precision == "int8" else EXPORTS[runtime]
    content["networks"] = {name: export(model, imgsz, folder / name).name for name, model in models.items()}
    for script in (*ALWAYS, *KITS[runtime].scripts):
        shutil.copy(BOARD / script, folder / script)
    options = f" --threads {threads}"
    text = README.format(install=KITS[runtime].install, options=options, imgsz=imgsz)
    (folder / "README.txt").write_text(text, encoding="utf-8")
    write_json(folder / "bundle.json", content, indent=None)
    return folder


def precisions_of(runtime: str, precision: str) -> list[str]:
    """Return in what a device can measure a bundle that was written in a precision.

    Args:
        runtime (str): A key of `KITS`.
        precision (str): One of its precisions.
    """
    if runtime not in INT8_EXPORTS:
        return [*KITS[runtime].precisions]
    return [other for other in KITS[runtime].precisions if (other == "int8") == (precision == "int8")]


def _architecture(model: nn.Module) -> list[list[int]]:
    """Return the shapes of a model's weights, by which two exports of the same network are known as such."""
    return [list(parameter.shape) for parameter in model.parameters()]
