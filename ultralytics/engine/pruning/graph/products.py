# SPDX-License-Identifier: AGPL-3.0-or-later
"""Products of matrices, alone and in an attention: what they sum over is tied, the rest is handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ultralytics.engine.pruning.graph.joins import combine, merge
from ultralytics.engine.pruning.graph.labels import NONE

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


def multiply(flow: Flow, a: torch.Tensor, b: torch.Tensor, output: torch.Tensor) -> bool:
    """Tie the channels that a product of matrices sums over, and hand on those along its other dimensions.

    Args:
        flow (Flow): The labels.
        a (torch.Tensor): Shape (..., rows, n).
        b (torch.Tensor): Shape (..., n, columns).
        output (torch.Tensor): Shape (..., rows, columns).

    Returns:
        (bool): True if it sums over channels.
    """
    first, second = flow.of(a), flow.of(b)
    along = flow.varies(first, -1), flow.varies(second, -2)
    across = flow.varies(first, -2), flow.varies(second, -1)
    if (along[0] and across[0]) or (along[1] and across[1]) or (across[0] and across[1]):
        flow.keep([a, b], "a product mixes its channels along two dimensions")
        return False
    if any(along):
        if not (flow.is_labelled(a) and flow.is_labelled(b)):
            flow.keep([a, b], "its channels are multiplied by numbers that are no layer's")
            return False
        flow.tie(first[..., 0, :], second[..., 0])
    parts = [
        labels.expand(output.shape)
        for labels, summed in ((first[..., :1], along[0]), (second[..., :1, :], along[1]))
        if not summed and (labels != NONE).any()
    ]
    flow.set(output, merge(flow, parts).clone() if parts else torch.zeros(output.shape, dtype=flow.dtype))
    return any(along)


def multiply_plain(flow: Flow, func: Any, args: tuple, output: torch.Tensor) -> None:
    """Follow a product of matrices."""
    if multiply(flow, args[0], args[1], output):
        flow.multiplied(func, args, 0, output)


def multiply_and_add(flow: Flow, func: Any, args: tuple, output: torch.Tensor) -> None:
    """Follow a product of matrices to which something is added."""
    if multiply(flow, args[1], args[2], output):
        flow.multiplied(func, args, 1, output)
    combine(flow, [args[0], output], output, in_place=False)


def attend(flow: Flow, func: Any, args: tuple, output: Any) -> None:
    """Follow an attention: queries with keys channel by channel, and values to the output."""
    query, key, value, *rest = args
    flow.keep(rest, "its outputs are masks of an attention")
    result = output[0] if isinstance(output, tuple) else output
    scores, keys = query.new_empty(*query.shape[:-1], key.shape[-2]), key.transpose(-2, -1)
    flow.set(keys, flow.of(key).transpose(-2, -1))
    if multiply(flow, query, keys, scores):
        flow.multiplied(func, args, 0, result)
    multiply(flow, scores, value, result)
