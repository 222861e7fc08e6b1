# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where a network ends: known of Ultralytics' heads, observed of one's own."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.engine.pruning.graph.heads import Ends, stock_ends
from ultralytics.engine.pruning.graph.labels import NONE
from ultralytics.engine.pruning.graph.places import MAKERS
from ultralytics.engine.pruning.graph.trace import Trace, trace


def find_ends(model: nn.Module, example: torch.Tensor) -> Ends:
    """Return where a network ends.

    Args:
        model (nn.Module): An Ultralytics model in evaluation mode.
        example (torch.Tensor): Input image of shape (1, C, H, W), for a head of one's own.

    Returns:
        (Ends): Its predictions.

    Raises:
        ValueError: If models with such a head cannot be pruned.
    """
    if ends := stock_ends(model):
        return ends
    return observed_ends(trace(model, Ends([], observed=True), example))


def observed_ends(found: Trace) -> Ends:
    """Return the layers whose outputs leave the network, in inference or in training, with no other layer behind them.

    Args:
        found (Trace): Trace for which no layer was an end.

    Raises:
        ValueError: If there are none.
    """
    left = found.labels.roots(torch.cat([*found.put_out, torch.zeros(1)])).unique()
    held = torch.tensor([NONE, *found.labels.reasons()])  # which stay for other reasons, and are one class for each
    left = left[~torch.isin(left, held)]
    makers = [(m, labels) for (m, axis), labels in found.axes.items() if axis == "out" and isinstance(m, MAKERS)]
    ends = [layer for layer, labels in makers if torch.isin(found.labels.roots(labels), left).any()]
    if not ends:
        raise ValueError(
            "the model puts out nothing that a layer has made and that can be followed. Let its head return tensors, "
            "alone or in lists, tuples, dicts or dataclasses."
        )
    return Ends(ends, observed=True)
