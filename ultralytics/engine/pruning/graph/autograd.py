# SPDX-License-Identifier: AGPL-3.0-or-later
"""What autograd's graph of a forward pass says, and torch-pruning does not ask."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch_pruning as tp


def unread(tensors: Iterable[torch.Tensor], outputs: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors that enter no output, the last ones of those that depend on each other.

    Layers that nothing reads run all the same, so their widths must follow.

    Args:
        tensors (Iterable[torch.Tensor]): Tensors in the order in which they were computed.
        outputs (Iterable[torch.Tensor]): What is known to be read.

    Returns:
        (list[torch.Tensor]): Ends of their own.
    """
    seen: set = set()

    def follow(tensor: torch.Tensor) -> None:
        stack = [tensor.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [before for before, _ in node.next_functions]

    for output in outputs:
        follow(output)
    ends = []
    for tensor in reversed(list(tensors)):
        if tensor.grad_fn not in seen:
            ends.append(tensor)
            follow(tensor)
    return ends


def pixel_flattening(x: torch.Tensor) -> set:
    """Return the autograd node that made a vector of channels out of a single pixel, if one made this tensor.

    Such a flattening, behind a global pooling, leaves every channel where it is.

    Args:
        x (torch.Tensor): Input of a linear layer.

    Returns:
        (set): The node, or nothing.
    """
    before = getattr(x.grad_fn, "_saved_self_sym_sizes", ())
    return {x.grad_fn} if x.dim() == 2 and tuple(before) == (*x.shape, 1, 1) else set()


def is_halved(node: tp.dependency.Node, halves: set) -> bool:
    """Return True for an operation whose result is halved with no layer between.

    Args:
        node (tp.dependency.Node): The operation.
        halves (set): Autograd nodes, those that take a half among them.
    """
    stack = [*node.outputs]
    while stack:
        reader = stack.pop()
        if reader.type == tp.ops.OPTYPE.SLICE and reader.grad_fn in halves:
            return True
        if next(reader.module.parameters(), None) is None:
            stack += reader.outputs
    return False
