# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the log leaves out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics.utils import LOGGER


@contextmanager
def warnings_only() -> Iterator[None]:
    """Keep Ultralytics' log to warnings and errors: for work whose advice and progress are of no use to the reader."""
    level = LOGGER.level
    LOGGER.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        LOGGER.setLevel(level)
