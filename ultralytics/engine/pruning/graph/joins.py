# SPDX-License-Identifier: AGPL-3.0-or-later
"""Operations in which the channels of several tensors meet, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.labels import NONE

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


def combine(flow: Flow, inputs: Sequence[torch.Tensor], output: Any, in_place: bool) -> None:
    """Tie the channels that meet in an element."""
    result = next(t for t in tree_leaves(output) if isinstance(t, torch.Tensor))
    merged = merge(flow, [flow.of(t).expand(result.shape) for t in inputs if flow.is_labelled(t)])
    for constant in inputs:
        if not flow.is_labelled(constant) and constant.dim() and constant is not result:
            flow.met(merged, constant.expand(result.shape))
    if in_place and _is_solid(flow.of(result)):
        flow.of(result).copy_(merged)
    else:
        for tensor in tree_leaves(output):
            flow.set(tensor, merged.clone())


def merge(flow: Flow, labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tie labels of one shape that meet, and return those of the result.

    What has one channel where another has many is spread over them; it must stay, but ties none of them.

    Args:
        flow (Flow): The labels.
        labels (Sequence[torch.Tensor]): Labels of one shape, expanded where a tensor is broadcast.

    Returns:
        (torch.Tensor): Labels of that shape.
    """
    spread = {id(t): [d for d, n in enumerate(t.shape) if n > 1 and t.stride(d) == 0] for t in labels}
    merged, *others = sorted(labels, key=lambda t: len(spread[id(t)]))
    dims = spread[id(merged)]
    for other in others:
        if any(flow.varies(merged, d) for d in spread[id(other)]):
            flow.hold(other, "its channel is spread over those of other layers")
        elif any(flow.varies(other, d) for d in dims):
            flow.hold(merged, "its channel is spread over those of other layers")
            merged, dims = other, spread[id(other)]
        else:
            flow.tie(merged, other)
        merged = torch.where(merged == NONE, other, merged)
    return merged


def _is_solid(labels: torch.Tensor) -> bool:
    """Return True if labels can be written to in place."""
    return all(n == 1 or labels.stride(d) for d, n in enumerate(labels.shape))
