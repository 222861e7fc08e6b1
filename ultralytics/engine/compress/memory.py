# SPDX-License-Identifier: AGPL-3.0-or-later
"""What to do when a measurement does not fit the device's memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from ultralytics.utils import LOGGER, colorstr

Result = TypeVar("Result")


def within_memory(measure: Callable[[int], Result], batch: int) -> Result:
    """Return what a measurement yields, made anew with half the batch as often as it runs out of memory.

    Args:
        measure (Callable): Images in a batch to the result.
        batch (int): Images in the first batch that is tried.

    Returns:
        (Any): What `measure` returned.

    Raises:
        RuntimeError: If a single image does not fit either, and whatever else `measure` raises.
    """
    while True:
        try:
            return measure(batch)
        except RuntimeError as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        # after the handler, whose traceback keeps the tensors alive
        batch //= 2
        gc.collect()
        torch.cuda.empty_cache()
        LOGGER.warning(f"{colorstr('compress:')} out of memory with batch={2 * batch}: measuring with batch={batch}")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if a device had no memory left, which some backends say by the message alone."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error).lower()
