# SPDX-License-Identifier: AGPL-3.0-or-later
"""INT8 for OpenVINO by NNCF with Ultralytics' settings, but for layers that stay float by its `ignored_scope`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.deploy.meeting import met
from ultralytics.engine.compress.deploy.relief import FEW, Relief
from ultralytics.engine.exporter import Exporter

WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")  # types of what is worth INT8


def export_openvino(exporter: Exporter, model: nn.Module, relief: Relief) -> Path:
    """Export to OpenVINO in INT8.

    Args:
        exporter (Exporter): Has the data set for the calibration.
        model (nn.Module): What it exports.
        relief (Relief): Says which layers stay float.

    Returns:
        (Path): Folder of the quantised file.
    """
    import nncf
    import openvino as ov

    def quantise_but_for(real: Any, model: Any, ignored_scope: Any = None, **settings: Any) -> Any:
        ignored = ignored_scope.names if ignored_scope else []
        operations = model.get_ordered_ops()
        layers = [op.get_friendly_name() for op in operations if op.get_type_name() in WEIGHTED]

        def quantised(in_float: Sequence[str], **own: Any) -> Any:
            scope = nncf.IgnoredScope(names=[*dict.fromkeys([*ignored, *in_float])])
            return real(model=model.clone(), ignored_scope=scope, **{**settings, **own})

        def write(in_float: Sequence[str], folder: Path) -> Path:
            folder = folder / "model_openvino_model"  # by this name, Ultralytics' back end knows it
            ov.save_model(quantised(in_float, subset_size=FEW), folder / "model.xml", compress_to_fp16=False)
            YAML.save(folder / "metadata.yaml", exporter.metadata)
            return folder

        return quantised(relief.choose([name for name in layers if name not in ignored], write))

    with met(nncf, "quantize", quantise_but_for):
        return Path(exporter(model=model))
