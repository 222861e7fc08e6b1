# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checks of 'quantize=8', with which a fine-tuning is quantization-aware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ultralytics import __version__
from ultralytics.cfg.compress.compat.quantization import HAS_QAT, QAT_PACKAGES
from ultralytics.utils.checks import check_requirements

QAT = 8  # value of 'quantize', as Ultralytics' `get_cfg` leaves it


def check_quantization(args: Mapping[str, Any], qat_epochs: int = 0) -> None:
    """Check that a training can be quantization-aware, if that is asked for.

    Args:
        args (Mapping[str, Any]): Arguments of the training; 'quantize' and 'compile' are read.
        qat_epochs (int): Epochs of such a training after the fine-tuning.

    Raises:
        ModuleNotFoundError: If a package is not installed, or too old.
        ValueError: If this Ultralytics has no such training, the model would be compiled, which it does not support, or
            there are to be two such trainings.
    """
    whole = args.get("quantize") == QAT
    if not whole and not qat_epochs:
        return
    asked = f"'qat_epochs={qat_epochs}'" if qat_epochs else f"'quantize={QAT}'"
    if whole and qat_epochs:
        raise ValueError(
            f"{asked} is invalid with 'quantize={QAT}', with which the whole fine-tuning is quantization-aware. Leave "
            "one of them out."
        )
    if not HAS_QAT:
        raise ValueError(
            f"{asked} needs an Ultralytics with quantization-aware training, and {__version__} has none. "
            "Update Ultralytics, or leave it out."
        )
    missing = [name for name in QAT_PACKAGES if not check_requirements(name, install=False)]
    if missing:
        raise ModuleNotFoundError(
            f"{asked} needs {', '.join(missing)}, which Ultralytics' quantization-aware training stands on. "
            "Install with: pip install 'ultralytics-compress[quantize]'"
        )
    if args.get("compile"):
        raise ValueError(
            f"'compile={args['compile']}' does not go with {asked}: Ultralytics does not compile models in a "
            "quantization-aware training. Leave one of them out."
        )
