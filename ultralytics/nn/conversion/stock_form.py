# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which checkpoints are converted when they are read, and how."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

from torch import nn

from ultralytics.cfg.compress.compat.modules import YOLOEModel
from ultralytics.nn.conversion.area_attention import has_split_attention, join_split_attention
from ultralytics.nn.conversion.closed_set import close_classes
from ultralytics.nn.tasks import WorldModel


def is_open_set(model: nn.Module) -> bool:
    """Return True for a model that knows its classes by embeddings of their names."""
    return isinstance(model, (WorldModel, YOLOEModel))


class Conversion(NamedTuple):
    """A kind of models that needs another form.

    Attributes:
        applies (Callable): True for such a model.
        convert (Callable): Such a model, which is its own to change, to one of stock classes that computes the same.
        note (Callable): The converted model to what has changed for its owner.
    """

    applies: Callable[[nn.Module], bool]
    convert: Callable[[nn.Module], nn.Module]
    note: Callable[[nn.Module], str]


CONVERSIONS = (
    Conversion(
        lambda model: isinstance(model, YOLOEModel),
        close_classes,
        lambda model: (
            f"its classes are fixed from now on ({class_names(model)}): their embeddings are weights of a "
            f"{type(model.model[-1]).__name__} head, as in any YOLO"
        ),
    ),
    Conversion(
        has_split_attention,
        join_split_attention,
        lambda _model: (
            "queries, keys and values of its attention come from one convolution, as in Ultralytics' YOLO12, which "
            "cannot run checkpoints of the original YOLOv12 repository"
        ),
    ),
)


def is_foreign(model: nn.Module) -> bool:
    """Return True for a model that needs another form."""
    return any(conversion.applies(model) for conversion in CONVERSIONS)


def stock_form(model: nn.Module) -> tuple[nn.Module, str]:
    """Return a model in a form that can be pruned, and that stock Ultralytics loads, trains and exports.

    Args:
        model (nn.Module): Ultralytics model in evaluation mode; it is left as it was.

    Returns:
        model (nn.Module): A converted copy, or the model itself if it needs no other form.
        note (str): What has changed, empty if nothing has.

    Raises:
        ValueError: If the model cannot be converted as it is; the message says how to get there.
    """
    notes = []
    for conversion in CONVERSIONS:
        if conversion.applies(model):
            model = conversion.convert(deepcopy(model))
            notes.append(conversion.note(model))
    return model, "; ".join(notes)


def class_names(model: nn.Module) -> str:
    """Return the names of a model's classes, of many the first."""
    names = [str(name) for name in model.names.values()]
    return ", ".join(names if len(names) <= 5 else [*names[:4], f"... {len(names)} in all"])
