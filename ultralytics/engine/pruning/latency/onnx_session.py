# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sessions of ONNX Runtime as latency is measured with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnxruntime


def onnx_version() -> str:
    """Return the version of ONNX Runtime, which builds for GPUs install under other names of the distribution."""
    import onnxruntime

    return onnxruntime.__version__


def open_session(
    model: str | bytes, threads: int, profile: Path | None = None
) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    """Open a model on the CPU.

    Args:
        model (str | bytes): ONNX file or its content.
        threads (int): Threads inside an operator.
        profile (Path, optional): Write a profile of every run to files that begin so.

    Returns:
        session (onnxruntime.InferenceSession): Session.
        feed (dict[str, np.ndarray]): A random input of FP32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # a session's idle threads would spin on while another session is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    return session, {i.name: random.random(i.shape, dtype=np.float32) for i in session.get_inputs()}
