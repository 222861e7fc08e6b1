# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 for ONNX Runtime by its own static quantisation, with the settings that are fast there."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from torch import nn

from ultralytics.engine.compress.deploy.relief import FEW, Relief
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.onnx_int8 import QUANTISED, no_advice, quantise_onnx
from ultralytics.utils.export.onnx import onnx_calibration_reader


def export_onnx(exporter: Exporter, model: nn.Module, relief: Relief) -> Path:
    """Export to ONNX and quantise the file; Ultralytics leaves ONNX Runtime's default, signed activations.

    Args:
        exporter (Exporter): Has the data set for the calibration.
        model (nn.Module): What it exports.
        relief (Relief): Says which layers stay float.

    Returns:
        (Path): The quantised file.
    """
    import onnx

    exporter.args.quantize = None  # it exports in float
    file = Path(exporter(model=model))
    nodes = onnx.load(file, load_external_data=False).graph.node
    layers = [node.name for node in nodes if node.op_type in QUANTISED]
    x86 = platform.machine().lower() in {"amd64", "x86_64"}

    def quantise(in_float: Sequence[str], folder: Path, most: int | None = FEW) -> Path:
        pictures = islice(exporter.get_int8_calibration_dataloader(), most)
        reader = onnx_calibration_reader(pictures, exporter._transform_fn)
        with no_advice():
            return quantise_onnx(file, folder / f"{file.stem}_int8.onnx", reader, in_float, unsigned=x86)

    quantised = quantise(relief.choose(layers, quantise), file.parent, None)
    file.unlink()
    return quantised
