# SPDX-License-Identifier: AGPL-3.0-or-later
"""The bundle: a folder with all that a device needs to measure a model's latency, and nothing of this package."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.engine.pruning.checkpoint.record import source_of
from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.networks import EXPORTS
from ultralytics.engine.pruning.latency.shapes import ConvShape

BOARD = Path(__file__).with_name("board")
SCHEMA = 1  # of bundle.json
SCRIPTS = {  # runtime: files of `board` that it needs besides these
    "": ("measure.py", "device.py"),
    "onnx": ("runtime_onnx.py", "onnx_file.py"),
    "openvino": ("runtime_openvino.py", "onnx_file.py"),
    "ncnn": ("runtime_ncnn.py",),
    "mnn": ("runtime_mnn.py",),
    "litert": ("runtime_litert.py",),
}
PACKAGES = {  # runtime: what to install on the device
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "litert": "ai-edge-litert",
}
README = """Measure this folder on the device:

    python3 -m pip install numpy {package}
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
    predicted: Mapping[str, float] | None = None,
) -> Path:
    """Write a bundle.

    Args:
        folder (Path): Where it goes.
        runtime (str): A key of `EXPORTS`.
        models (Mapping[str, nn.Module]): Name to stock model, unfused: whole networks, the dense one first.
        shapes (Sequence[Sequence[ConvShape]]): Convolutions, those together that differ in their widths alone.
        imgsz (int): Image size in pixels.
        precision (str): In which it is measured if the device is not told otherwise.
        threads (int): With how many threads, likewise.
        measured (Mapping[str, Sequence[float]], optional): Key of a `ConvShape` to what the device has answered before.
        predicted (Mapping[str, float], optional): Name of a network to the milliseconds of its convolutions by a table.

    Returns:
        (Path): The folder.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "runtime": runtime,
        "precision": precision,
        "threads": threads,
        "imgsz": imgsz,
        "model": next((source_of(model) for model in models.values()), {}),
        "fields": ConvShape._fields,
        "convolutions": [[(shape.key, tuple(shape)) for shape in group] for group in shapes],
        "measured": dict(measured or {}),
        "predicted": dict(predicted or {}),
    }
    same = [*content.items(), *((name, _architecture(model)) for name, model in models.items())]
    content["id"] = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    content["networks"] = {name: EXPORTS[runtime](model, imgsz, folder / name).name for name, model in models.items()}
    for script in (*SCRIPTS[""], *SCRIPTS[runtime]):
        shutil.copy(BOARD / script, folder / script)
    options = f" --threads {threads}"
    text = README.format(package=PACKAGES[runtime], options=options, imgsz=imgsz)
    (folder / "README.txt").write_text(text, encoding="utf-8")
    write_json(folder / "bundle.json", content, indent=None)
    return folder


def _architecture(model: nn.Module) -> list[list[int]]:
    """Return the shapes of a model's weights, by which two exports of the same network are known as such."""
    return [list(parameter.shape) for parameter in model.parameters()]
