# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check of 'deploy', without importing the stage for runs that have none."""

from __future__ import annotations

from typing import Any

import torch

from ultralytics import __version__
from ultralytics.cfg.compress.compat.quantization import HAS_PRECISIONS


def check_deployment(deploy: Any, device: torch.device) -> None:
    """Check that the files of a deploy stage can be made on this machine.

    Args:
        deploy (str | Sequence[str], optional): Value of 'deploy'.
        device (torch.device): Device of the run.

    Raises:
        ValueError: If the value is not valid, or this Ultralytics cannot make such files.
        ModuleNotFoundError: If a package is not installed.
    """
    if deploy is None:
        return
    if not HAS_PRECISIONS:
        raise ValueError(
            f"'deploy={deploy}' needs an Ultralytics whose exports take 'quantize', and {__version__} does not. Update "
            "Ultralytics, or leave 'deploy' out and export with 'yolo export'."
        )
    from ultralytics.engine.compress.deploy.targets import check_targets  # which older releases cannot import

    check_targets(deploy, device)
