# SPDX-License-Identifier: AGPL-3.0-or-later
"""Calls of Ultralytics' exporter to a runtime's quantiser, met on their way instead of copied with their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def met(owner: Any, name: str, instead: Callable) -> Iterator[None]:
    """Have a function of another package answered by one of ours until the block ends.

    Args:
        owner (Any): Module or class.
        name (str): Its function or method.
        instead (Callable): Gets the real one, then what the caller gives.
    """
    real = getattr(owner, name)

    def answer(*args: Any, **kwargs: Any) -> Any:
        return instead(real, *args, **kwargs)

    setattr(owner, name, answer)
    try:
        yield
    finally:
        setattr(owner, name, real)
