# SPDX-License-Identifier: AGPL-3.0-or-later
"""Helpers around devices and torch's switches."""

from __future__ import annotations

import inspect
import os

import torch

from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import torch_utils


def _unset_deterministic() -> None:
    """Take back what a trainer's constructor has set for deterministic training."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    for name in ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED"):
        os.environ.pop(name, None)


def _get_gpu_info(index: int) -> str:
    """Return the name and the memory of a GPU."""
    gpu = torch.cuda.get_device_properties(index)
    return f"{gpu.name}, {gpu.total_memory >> 20}MiB"


CHOOSES_LAYOUT = "channels_last" in inspect.signature(AutoBackend.__init__).parameters  # of PyTorch models, to infer
unset_deterministic = getattr(torch_utils, "unset_deterministic", _unset_deterministic)
get_gpu_info = getattr(torch_utils, "get_gpu_info", _get_gpu_info)
unwrap_model = getattr(torch_utils, "unwrap_model", None) or torch_utils.de_parallel
