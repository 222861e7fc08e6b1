# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exports by releases that are older than torch's present exporter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from ultralytics.utils import files


def _import_execstack(package: str, *libraries: str) -> None:
    """Do nothing: older releases import libraries that ask for an executable stack as they are."""


import_execstack = getattr(files, "import_execstack", _import_execstack)


@contextmanager
def traced_export() -> Iterator[None]:
    """Have `torch.onnx.export` trace a model unless it is told otherwise: older releases of Ultralytics rely on it."""
    stock = torch.onnx.export
    if "dynamo" in inspect.signature(stock).parameters:
        torch.onnx.export = partial(stock, dynamo=False)
    try:
        yield
    finally:
        torch.onnx.export = stock
