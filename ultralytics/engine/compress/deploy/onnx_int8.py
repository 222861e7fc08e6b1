# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 for ONNX Runtime by its own static quantisation, with the settings that are fast there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from torch import nn

from ultralytics.engine.compress.deploy.relief import FEW, Relief
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.onnx_int8 import QUANTISED, is_x86, quantise_onnx
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

    def quantise(in_float: Sequence[str], folder: Path, most: int | None = FEW) -> Path:
        pictures = islice(exporter.get_int8_calibration_dataloader(), most)
        reader = onnx_calibration_reader(pictures, exporter._transform_fn)
        quantise_onnx(file, folder / f"{file.stem}_int8.onnx", reader, in_float, unsigned=is_x86())
        return folder / f"{file.stem}_int8.onnx"

    quantised = quantise(relief.choose(layers, quantise), file.parent, None)
    file.unlink()
    return quantised


def store_weights_quantised(file: Path) -> None:
    """Store the weights of a quantization-aware training in 8 bits, which its export leaves in float.

    ONNX Runtime folds them as it does whenever it opens such a file; here the result is kept.

    Args:
        file (Path): Export, which is replaced.
    """
    import onnx
    import onnxruntime as ort

    folded = file.with_suffix(".folded.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # what holds on every machine
    options.optimized_model_filepath = str(folded)
    ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    model = onnx.load(folded)
    domains = {node.domain for node in model.graph.node} | {""}
    opsets = [opset for opset in model.opset_import if opset.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(opsets)  # without those of operators that only ONNX Runtime has
    onnx.save(model, folded)
    folded.replace(file)
