# SPDX-License-Identifier: AGPL-3.0-or-later
"""How large the tensors of a network get in an image of another size, told without running that image."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.operations import ATTENTIONS

FUSED_ATTENTION = torch.ops.aten._native_multi_head_attention.default


class Sizes(TorchDispatchMode):
    """Notes how many bytes the largest result of every operation has, attention weights inside a fused one included.

    Attributes:
        bytes (list[int]): Bytes, operation by operation.
        labelled (bool): Those of `scaled_dot_product_attention`, which never holds all of them, are to be labelled.
    """

    def __init__(self, labelled: bool = False):
        """Begin with no operations."""
        super().__init__()
        self.bytes: list[int] = []
        self.labelled = labelled

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and note the size of its result."""
        output = func(*args, **(kwargs or {}))
        self.bytes.append(max(map(_bytes, tree_leaves(output)), default=0))
        if self.labelled and func._schema.name.removeprefix("aten::") in ATTENTIONS:
            query, key = args[:2]
            self.bytes.append(query.shape[:-1].numel() * key.shape[-2] * query.element_size())
        if func is FUSED_ATTENTION:
            query, key, heads = args[0], args[1], args[4]
            self.bytes.append(query.shape[0] * heads * query.shape[1] * key.shape[1] * query.element_size())
        return output


def _bytes(value: Any) -> int:
    """Return the bytes of a tensor, or 0 for what is none."""
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def largest_tensor(model: nn.Module, example: torch.Tensor, labelled: bool = False) -> Callable[[int], float]:
    """Return how many bytes the largest tensor of a forward pass has, by the pixels of its image.

    Every result is taken to grow with a power of the pixels, which an image of twice the width tells.

    Args:
        model (nn.Module): Model in evaluation mode.
        example (torch.Tensor): Image that it takes, of shape (1, C, H, W).
        labelled (bool): For a pass whose tensors are labelled: attention weights are tensors as well.

    Returns:
        (Callable): Pixels of an image to the bytes.
    """
    counts = []
    for widths in (1, 2):
        with torch.no_grad(), Sizes(labelled) as sizes:
            model(example.repeat(1, 1, 1, widths))
        counts.append(sizes.bytes)
    pairs = [(once, twice) for once, twice in zip(*counts) if once and twice]

    def largest(pixels: int) -> float:
        ratio = pixels / example.shape[2:].numel()
        # never faster than the square: where one of the images takes further operations, unlike ones may be compared
        return max((once * ratio ** min(2.0, log2(twice / once)) for once, twice in pairs), default=0.0)

    return largest
