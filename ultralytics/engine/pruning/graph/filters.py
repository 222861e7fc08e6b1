# SPDX-License-Identifier: AGPL-3.0-or-later
"""Convolutions that are no layers: filters of a block's own, as a blur or a wavelet has, for each channel by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


def filter_groups(flow: Flow, func: Any, args: tuple, output: torch.Tensor) -> None:
    """Let every group of a convolution go as a whole, with what it reads, its filters and what it makes.

    Args:
        flow (Flow): The labels.
        func (torch._ops.OpOverload): The operation.
        args (tuple): Input of shape (B, C, ...), weight, whose first dimension is that of the outputs, of a transposed
            convolution that of the inputs, bias, and how it is done; the last is the number of groups.
        output (torch.Tensor): Shape (B, C', ...).
    """
    x, weight, bias = args[:3]
    groups = args[8]
    if groups == 1:
        flow.keep([x, weight, bias], "its channels are mixed by weights that are no layer's")
        return
    read = flow.channels(x, 1).view(groups, -1)
    flow.tie(read[:, :1], read)
    rows = flow.of(weight).reshape(groups, -1)
    if flow.is_labelled(weight) and flow.varies(flow.of(weight), 0):
        flow.tie(read[:, :1], rows)
    else:
        flow.met(read[:, :1], weight.reshape(groups, -1))
    made = read[:, :1].expand(groups, output.shape[1] // groups).flatten()
    if bias is not None:
        flow.tie(made, flow.of(bias))
    flow.set_channels(output, made, 1)
    flow.told(groups, read[:, 0])
    flow.doubt(made, "its channels pass filters that are no layer's")
