# SPDX-License-Identifier: AGPL-3.0-or-later
"""Quantisation in trainings and exports, which older releases lack."""

from __future__ import annotations

from typing import Any

from torch import nn

from ultralytics.cfg import check_cfg
from ultralytics.utils import DEFAULT_CFG_DICT, torch_utils


def _is_qat(model: nn.Module) -> bool:
    """Return False: no training has quantised it."""
    return False


def _strip_qat(model: nn.Module) -> None:
    """Leave a model as it is."""


def _takes_counts() -> bool:
    """Return True if 'fraction' may be a number of pictures, not only a share of them."""
    try:
        check_cfg({"fraction": 300})
    except (TypeError, ValueError):
        return False
    return True


def _names_amp() -> bool:
    """Return True if 'amp' may be the name of a precision, which check_cfg then writes in small letters."""
    values = {"amp": "BF16"}
    try:
        check_cfg(values)
    except TypeError:
        return False
    return values["amp"] == "bf16"


AMP_NAMES = ("fp16", "bf16", "fp32") if _names_amp() else ()
FRACTION_COUNTS = _takes_counts()
HAS_PRECISIONS = "quantize" in DEFAULT_CFG_DICT  # by which exports name them
HAS_QAT = hasattr(torch_utils, "is_qat")
NOT_QUANTISED: dict[str, Any] = {"quantize": None} if HAS_PRECISIONS else {}
is_qat = getattr(torch_utils, "is_qat", _is_qat)
strip_qat = getattr(torch_utils, "strip_qat", _strip_qat)
QAT_PACKAGES: list[str] = getattr(torch_utils, "MODELOPT_REQUIREMENTS", [])
