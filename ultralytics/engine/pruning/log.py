# SPDX-License-Identifier: AGPL-3.0-or-later
"""Context managers that suppress or summarise Ultralytics' log messages."""

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


@contextmanager
def lines_counted(prefix: str, summary: str) -> Iterator[None]:
    """Have one line of Ultralytics' log stand for many that begin alike.

    Args:
        prefix (str): What those lines begin with.
        summary (str): The line, with '{}' for how many there were; it is left out if there were none.
    """
    count = 0

    def passes(record: logging.LogRecord) -> bool:
        nonlocal count
        counted = record.getMessage().startswith(prefix)
        count += counted
        return not counted

    LOGGER.addFilter(passes)
    try:
        yield
    finally:
        LOGGER.removeFilter(passes)
    if count:
        LOGGER.info(summary.format(count))
