# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 files for ONNX Runtime by its own static quantisation."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

QUANTISED = ("Conv", "Gemm", "MatMul")  # operators that are worth INT8: the others stay float


def quantise_onnx(
    file: Path, quantised: Path, reader: CalibrationDataReader, in_float: Collection[str] = (), unsigned: bool = True
) -> Path:
    """Quantise an ONNX file with the settings that are fast.

    ONNX Runtime's default, signed activations, has slower kernels for x86 than float has: unsigned ones, with a scale
    per channel of the weights, are faster.

    Args:
        file (Path): ONNX file.
        quantised (Path): Where the result goes.
        reader (CalibrationDataReader): Images for the ranges of activations.
        in_float (Collection[str]): Nodes that stay float, beside all but the `QUANTISED`.
        unsigned (bool): Unsigned activations.

    Returns:
        (Path): The result.
    """
    from onnxruntime.quantization import QuantType, quantize_static

    quantize_static(
        str(file),
        str(quantised),
        reader,
        op_types_to_quantize=[*QUANTISED],
        nodes_to_exclude=[*in_float],
        activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return quantised


def quantise_for_timing(file: Path) -> Path:
    """Quantise an ONNX file in its place, by ranges from random images: times do not depend on them.

    Args:
        file (Path): ONNX file of a network with one image as its input.

    Returns:
        (Path): The file.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    fold_constants(file)

    class Images(CalibrationDataReader):
        """Random images."""

        def __init__(self, name: str, shape: Sequence[int]):
            random = np.random.default_rng(0)
            self.left = [{name: random.random(shape, dtype=np.float32)} for _ in range(2)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    image = onnx.load(file).graph.input[0]
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    with no_advice():
        return quantise_onnx(file, file.with_suffix(".int8.onnx"), Images(image.name, shape)).replace(file)


def fold_constants(file: Path) -> None:
    """Fold the constants of an ONNX file in its place.

    Of equal biases an export stores one and copies it by an operator, and a convolution whose bias is no constant is
    not quantised.

    Args:
        file (Path): ONNX file.
    """
    import onnx
    import onnxruntime

    folded = file.with_suffix(".folded.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # as any machine reads it
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    model = onnx.load(folded)
    domains = {node.domain for node in model.graph.node} | {""}
    opsets = [opset for opset in model.opset_import if opset.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(opsets)  # without those of operators that only ONNX Runtime has
    onnx.save(model, folded)
    folded.replace(file)


@contextmanager
def no_advice() -> Iterator[None]:
    """Keep ONNX Runtime's advice back to prepare a file in another way, and by its own script."""

    def is_other(record: logging.LogRecord) -> bool:
        return "quantization" not in Path(record.pathname).parts

    root = logging.getLogger()
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
