# SPDX-License-Identifier: AGPL-3.0-or-later
"""Formats whose quantiser can leave single layers in float: what exports them in INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ultralytics.engine.compress.deploy.litert_int8 import export_litert
from ultralytics.engine.compress.deploy.onnx_int8 import export_onnx
from ultralytics.engine.compress.deploy.openvino_int8 import export_openvino
from ultralytics.engine.compress.deploy.relief import Relief
from ultralytics.engine.exporter import Exporter

QUANTISERS: dict[str, Callable[[Exporter, nn.Module, Relief], Path]] = {
    "onnx": export_onnx,
    "openvino": export_openvino,
    "litert": export_litert,
}
