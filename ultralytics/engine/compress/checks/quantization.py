# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checks of 'quantize=8', with which a fine-tuning is quantization-aware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ultralytics import __version__
from ultralytics.cfg.compress.compat.quantization import HAS_QAT, QAT_PACKAGES
from ultralytics.utils.checks import check_requirements

QAT = 8  # value of 'quantize', as Ultralytics' `get_cfg` leaves it


def check_quantization(args: Mapping[str, Any]) -> None:
    """Check that a training can be quantization-aware, if that is asked for.

    Args:
        args (Mapping[str, Any]): Arguments of the training; 'quantize' and 'compile' are read.

    Raises:
        ModuleNotFoundError: If a package is not installed, or too old.
        ValueError: If this Ultralytics has no such training, or the model would be compiled, which it does not support.
    """
    if args.get("quantize") != QAT:
        return
    if not HAS_QAT:
        raise ValueError(
            f"'quantize={QAT}' needs an Ultralytics with quantization-aware training, and {__version__} has none. "
            "Update Ultralytics, or leave 'quantize' out."
        )
    missing = [name for name in QAT_PACKAGES if not check_requirements(name, install=False)]
    if missing:
        raise ModuleNotFoundError(
            f"'quantize={QAT}' needs {', '.join(missing)}, which Ultralytics' quantization-aware training stands on. "
            "Install with: pip install 'ultralytics-compress[quantize]'"
        )
    if args.get("compile"):
        raise ValueError(
            f"'compile={args['compile']}' does not go with 'quantize={QAT}': Ultralytics does not compile models in a "
            "quantization-aware training. Leave one of them out."
        )
