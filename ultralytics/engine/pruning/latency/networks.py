# SPDX-License-Identifier: AGPL-3.0-or-later
"""Whole networks in the files that runtimes read, exported by Ultralytics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ultralytics.cfg.compress.compat.export import import_execstack, traced_export
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.graph.image_size import image_channels
from ultralytics.engine.pruning.latency.onnx_int8 import quantise_for_timing
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.nn.tasks import guess_model_task


def export_onnx(model: nn.Module, imgsz: int, file: Path) -> Path:
    """Write an ONNX file and return its path: `file` with a suffix; see `EXPORTS`."""
    return Path(shutil.move(_export(model, imgsz, file, "onnx"), file.with_suffix(".onnx")))


def export_onnx_int8(model: nn.Module, imgsz: int, file: Path) -> Path:
    """Write an ONNX file in INT8 and return its path; see `EXPORTS`."""
    return quantise_for_timing(export_onnx(model, imgsz, file))


def export_openvino_int8(model: nn.Module, imgsz: int, file: Path) -> Path:
    """Write OpenVINO's .xml and .bin in INT8, as Ultralytics quantises with NNCF, and return the path of the first."""
    folder = _export(model, imgsz, file, "openvino", RandomImages, int8=True)
    (weights,) = folder.glob("*.bin")
    shutil.move(weights, file.with_suffix(".bin"))
    shutil.move(weights.with_suffix(".xml"), file.with_suffix(".xml"))
    shutil.rmtree(folder)
    return file.with_suffix(".xml")


class RandomImages(Exporter):
    """Calibrates INT8 on random images: times do not depend on the ranges of activations."""

    def get_int8_calibration_dataloader(self, prefix: str = "") -> list[dict[str, torch.Tensor]]:
        """Return two batches as a data set has them."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, image_channels(self.model), *self.imgsz)
        return [{"img": torch.randint(256, shape, generator=generator, dtype=torch.uint8)} for _ in range(2)]


def export_ncnn(model: nn.Module, imgsz: int, file: Path) -> Path:
    """Write ncnn's .param, .bin and, for the image, a .size, and return the path of the first; see `EXPORTS`."""
    folder = _export(model, imgsz, file, "ncnn")
    for suffix in (".param", ".bin"):
        shutil.move(folder / f"model.ncnn{suffix}", file.with_suffix(suffix))
    shutil.rmtree(folder)
    file.with_suffix(".size").write_text(f"{image_channels(model)} {imgsz} {imgsz}\n", encoding="utf-8")
    return file.with_suffix(".param")


def export_mnn(model: nn.Module, imgsz: int, file: Path) -> Path:
    """Write an .mnn file and return its path; see `EXPORTS`.

    `MNN.tools.mnnconvert`, which an export by Ultralytics imports, installs a package that sends telemetry: the
    converter under it is called instead.
    """
    onnx = export_onnx(model, imgsz, file)
    import_execstack("MNN", "_mnncengine*.so", "_tools*.so")
    import _tools

    result = file.with_suffix(".mnn")
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(result), "--bizCode", "bench"])
    for scratch in (onnx, result.parent / ".__convert_external_data.bin"):
        scratch.unlink(missing_ok=True)
    return result


def export_litert(model: nn.Module, imgsz: int, file: Path, **keys: bool) -> Path:
    """Write a .tflite file, in INT8 with the key of this name, and return its path; see `EXPORTS`."""
    exported = _export(model, imgsz, file, "litert", RandomImages, **keys)
    return Path(shutil.move(exported, file.with_suffix(".tflite")))


def _export(
    model: nn.Module, imgsz: int, file: Path, form: str, exporter: type[Exporter] = Exporter, **keys: bool
) -> Path:
    """Export a copy of a model as Ultralytics does and return the path that it names."""
    copy = deepcopy(model).cpu().float()
    copy.task = guess_model_task(copy)
    copy.pt_path = str(file.with_suffix(".pt"))  # where the exporter puts its files
    threads = torch.get_num_threads()
    settings = {"format": form, "imgsz": imgsz, "batch": 1, "device": "cpu", "verbose": False, **keys}
    if form == "onnx":  # runtimes optimise the graph by themselves
        settings["simplify"] = False
    with traced_export(), warnings_only():  # the export's progress and advice concern a file that serves a measurement
        exported = exporter(overrides=settings)(model=copy)
    torch.set_num_threads(threads)  # the exporter sets Ultralytics' own number
    return Path(exported)


Export = Callable[[nn.Module, int, Path], Path]  # of a model for an image size, to a path without suffix
EXPORTS: dict[str, Export] = {  # by runtime
    "onnx": export_onnx,
    "openvino": export_onnx,
    "ncnn": export_ncnn,
    "mnn": export_mnn,
    "litert": export_litert,
    "tensorrt": export_onnx,
}
INT8_EXPORTS: dict[str, Export] = {  # where the file says the precision
    "onnx": export_onnx_int8,
    "openvino": export_openvino_int8,
    "litert": partial(export_litert, int8=True),
}
