# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which channels go together where a tensor is cut up along its channels, so that the parts stay alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ultralytics.engine.pruning.graph.flow import Flow


def tie_parts(flow: Flow, labels: torch.Tensor, _dims: list[int], _args: tuple, moved: Any) -> None:
    """Let channel i of every part go together, if the parts are equally large."""
    if len({part.shape for part in moved}) == 1:
        for part in moved[1:]:
            flow.tie(moved[0], part)


def tie_slice(flow: Flow, labels: torch.Tensor, dims: list[int], args: tuple, moved: torch.Tensor) -> None:
    """Let channel i of every part go together, if a slice is one of several equal parts, in a row or interleaved."""
    dim = args[1] % labels.dim() if len(args) > 1 else 0
    start, step, size = (args[2] if len(args) > 2 else 0) or 0, args[4] if len(args) > 4 else 1, moved.shape[dim]
    if dim not in dims or size == labels.shape[dim]:
        return
    if step > 1 and start < step and labels.shape[dim] % step == 0:
        rows = labels.unflatten(dim, (-1, step))
        flow.tie(rows, rows.narrow(dim + 1, 0, 1))
    elif step == 1 and size and labels.shape[dim] % size == 0 and start % size == 0:
        rows = labels.unflatten(dim, (-1, size))
        flow.tie(rows, rows.narrow(dim, 0, 1))


def tie_dims(flow: Flow, labels: torch.Tensor, dims: list[int], _args: tuple, moved: torch.Tensor) -> None:
    """Let channels go together that lie along a dimension of their own now, the smaller ones of several."""
    after = sorted(flow.varying(moved), key=lambda d: moved.shape[d])
    for dim in after[: max(len(after) - len(dims), 0)]:
        flow.tie(moved, moved.narrow(dim, 0, 1))


def tie_subpixels(flow: Flow, labels: torch.Tensor, _dims: list[int], args: tuple, moved: torch.Tensor) -> None:
    """Let channels go together that become the pixels of one."""
    rows = labels.unflatten(-3, (-1, args[1] ** 2))
    flow.tie(rows, rows.narrow(-3, 0, 1))


def tie_shuffled(flow: Flow, labels: torch.Tensor, _dims: list[int], args: tuple, moved: torch.Tensor) -> None:
    """Let channel i of every group go together, so that the groups stay equally large."""
    rows = labels.unflatten(1, (args[1], -1))
    flow.tie(rows, rows.narrow(1, 0, 1))


def hold_places(flow: Flow, labels: torch.Tensor, dims: list[int], args: tuple, moved: Any) -> None:
    """Leave channels whole that are chosen or counted by their place."""
    where = args[1] if len(args) > 1 else 0
    if isinstance(where, (list, tuple)):  # of indices, one for each dimension or None
        where = [d for d, index in enumerate(where) if index is not None]
    touched = {d % labels.dim() for d in (where if isinstance(where, list) else [where])}
    if touched & {*dims}:
        flow.hold(labels, "its channels are chosen by their place")


def hold_rolled(flow: Flow, labels: torch.Tensor, dims: list[int], args: tuple, moved: torch.Tensor) -> None:
    """Leave channels whole that are shifted against each other."""
    touched = {d % labels.dim() for d in args[2]} if len(args) > 2 and args[2] else {*range(labels.dim())}
    if touched & {*dims}:
        flow.hold(labels, "its channels are chosen by their place")


def hold_all(flow: Flow, labels: torch.Tensor, _dims: list[int], _args: tuple, _moved: Any) -> None:
    """Leave channels whole of which nothing is known."""
    flow.hold(labels, "its channels cannot be followed")


def numbers(flow: Flow, labels: torch.Tensor, args: tuple, moved: Any) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the numbers of channels that a move may have been told, each with the labels of these channels.

    Args:
        flow (Flow): The labels.
        labels (torch.Tensor): Labels before the move.
        args (tuple): Its arguments.
        moved (Any): Labels afterwards, a tensor or several.
    """
    for part in moved if isinstance(moved, (list, tuple)) else [moved]:
        for dim in flow.varying(part):
            yield part.shape[dim], part.movedim(dim, 0).reshape(part.shape[dim], -1).amax(1)
    if len(args) > 2 and isinstance(args[2], int) and args[2] > 0:  # where a slice begins
        before = labels.narrow(args[1], 0, args[2]).movedim(args[1], 0).reshape(args[2], -1).amax(1)
        yield args[2], before


CUTS: dict[str, Callable[[Flow, torch.Tensor, list[int], tuple, Any], None]] = {
    **dict.fromkeys(("split", "split_with_sizes", "unbind", "unsafe_chunk", "unsafe_split"), tie_parts),
    **dict.fromkeys(("_reshape_alias", "_unsafe_view", "expand", "reshape", "view"), tie_dims),
    **dict.fromkeys(("gather", "index", "index_select", "select", "take_along_dim", "unfold"), hold_places),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), tie_shuffled),
    "as_strided": hold_all,
    "pixel_shuffle": tie_subpixels,
    "roll": hold_rolled,
    "slice": tie_slice,
}
"""Moves whose arguments may be numbers of channels, or in which the place of a channel matters."""
