# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 for LiteRT by ai-edge-quantizer with Ultralytics' recipe, but for operators that its recipes leave in float."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.engine.compress.deploy.meeting import met
from ultralytics.engine.compress.deploy.relief import Relief
from ultralytics.engine.exporter import Exporter


def export_litert(exporter: Exporter, model: nn.Module, relief: Relief) -> Path:
    """Export to LiteRT in INT8.

    Args:
        exporter (Exporter): Has the data set for the calibration.
        model (nn.Module): What it exports.
        relief (Relief): Says which operators stay float.

    Returns:
        (Path): The quantised file.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe

    def quantise_but_for(real: Any, own: Any, calibration_result: Any = None) -> Any:
        whole = own.get_quantization_recipe()

        def quantised(in_float: Sequence[str]) -> Any:
            own.load_quantization_recipe(whole)
            for scope in in_float:
                own.update_quantization_recipe(
                    regex=f"^{re.escape(scope)}$",
                    operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                    algorithm_key=recipe.AlgorithmName.NO_QUANTIZE,
                )
            return real(own, calibration_result, enable_progress_report=False)

        def write(in_float: Sequence[str], folder: Path) -> Path:
            file = folder / "model.tflite"
            quantised(in_float).export_model(str(file))
            with zipfile.ZipFile(file, "a") as archive:  # where Ultralytics' back end looks for it
                archive.writestr("metadata.json", json.dumps(exporter.metadata))
            return file

        return quantised(relief.choose(_scopes(next(exporter.file.parent.glob("*.tflite"))), write))

    with met(quantizer.Quantizer, "quantize", quantise_but_for):
        return Path(exporter(model=model))


def _scopes(file: Path) -> list[str]:
    """Return the operators of a file in their order, each by the name that a recipe's pattern is matched with."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope, read_model

    graph = read_model(str(file)).subgraphs[0]
    return [get_op_scope(op, graph.tensors) for op in graph.operators]
