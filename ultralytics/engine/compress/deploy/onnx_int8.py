# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 for ONNX Runtime by its own static quantisation, with the settings that are fast there."""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ultralytics.engine.exporter import Exporter
from ultralytics.utils.export.onnx import onnx_calibration_reader

QUANTISED = ("Conv", "Gemm", "MatMul")  # operators that are worth INT8: the others stay float
SENSITIVITY_PICTURES = 4  # whose activations are all in memory at once


def quantise_onnx(file: Path, exporter: Exporter, share: float = 0.0) -> Path:
    """Quantise an ONNX file, but for the layers that lose most by it.

    Ultralytics leaves ONNX Runtime's default, signed activations, for which its kernels for x86 are slower than those
    for float: unsigned ones, with a scale per channel of the weights, are faster.

    Args:
        file (Path): Export in FP32, which is removed.
        exporter (Exporter): What has made it, with the data set for the calibration.
        share (float): Share of the layers that stay float, in [0, 1): those that lose most, see `rank_layers`.

    Returns:
        (Path): The quantised file.
    """
    quantised = file.with_name(f"{file.stem}_int8.onnx")
    _quantise(file, quantised, exporter, ())
    if share:
        ranked = rank_layers(file, quantised, exporter)
        _quantise(file, quantised, exporter, ranked[: math.ceil(share * len(ranked))])
    file.unlink()
    return quantised


def rank_layers(file: Path, quantised: Path, exporter: Exporter) -> list[str]:
    """Rank the layers of a quantised file by what each loses, measured by ONNX Runtime's debugging tools.

    Args:
        file (Path): The file in FP32.
        quantised (Path): The same, quantised.
        exporter (Exporter): For the pictures.

    Returns:
        (list[str]): Names of the quantised nodes, the one whose input has the lowest ratio of signal to quantisation
            noise first.
    """
    import onnx
    from onnxruntime.quantization import qdq_loss_debug as debug

    activations = []
    with tempfile.TemporaryDirectory() as folder:
        for model in (quantised, file):
            augmented = Path(folder) / model.name
            debug.modify_model_output_intermediate_tensors(str(model), str(augmented))
            pictures = islice(exporter.get_int8_calibration_dataloader(), SENSITIVITY_PICTURES)
            reader = onnx_calibration_reader(pictures, exporter._transform_fn)
            activations.append(debug.collect_activations(str(augmented), reader))
    inputs = debug.compute_activation_error(debug.create_activation_matching(*activations))
    signal_to_noise = {}
    for node in onnx.load(file, load_external_data=False).graph.node:
        if node.op_type in QUANTISED:
            ratios = [inputs[name]["qdq_err"] for name in node.input if name in inputs]
            signal_to_noise[node.name] = min(ratios, default=math.inf)
    return sorted(signal_to_noise, key=lambda name: signal_to_noise[name])


def _quantise(file: Path, quantised: Path, exporter: Exporter, in_float: Sequence[str]) -> None:
    """Write a quantised file, in which the named nodes, and all operators that are not worth it, stay float."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    nodes = onnx.load(file, load_external_data=False).graph.node
    x86 = platform.machine().lower() in {"amd64", "x86_64"}
    quantize_static(
        str(file),
        str(quantised),
        onnx_calibration_reader(exporter.get_int8_calibration_dataloader(), exporter._transform_fn),
        nodes_to_exclude=[node.name for node in nodes if node.op_type not in QUANTISED or node.name in in_float],
        activation_type=QuantType.QUInt8 if x86 else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
