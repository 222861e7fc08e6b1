# SPDX-License-Identifier: AGPL-3.0-or-later
"""Timing under the conditions of inference, whatever a training has set in the process."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ultralytics.cfg.compress.compat.devices import CHOOSES_LAYOUT
from ultralytics.utils import LINUX, WINDOWS


@contextmanager
def inference_settings() -> Iterator[None]:
    """Let PyTorch choose kernels as in a fresh process that predicts images; restore the settings afterwards.

    A trainer turns deterministic algorithms on, which rules out fast kernels, and a prediction on a stream leaves
    `cudnn.benchmark` on.
    """
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = False, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = flags


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the layout in which Ultralytics' `AutoBackend` runs PyTorch models on a device by default."""
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    x86 = platform.machine() in {"AMD64", "x86_64"} and (LINUX or WINDOWS)
    last = CHOOSES_LAYOUT and device.type == "cpu" and x86 and onednn
    return torch.channels_last if last else torch.contiguous_format


def synchronized_time(device: torch.device) -> float:
    """Return the time in seconds once a device has finished its work; Ultralytics' `time_sync` skips MPS.

    Args:
        device (torch.device): The device that is timed, which need not be the current one.
    """
    if device.type == "mps":
        torch.mps.synchronize()
    elif device.type != "cpu":
        getattr(torch, device.type).synchronize(device)
    return time.perf_counter()
