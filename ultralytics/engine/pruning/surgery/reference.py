# SPDX-License-Identifier: AGPL-3.0-or-later
"""Let what counts channels see only those that are kept, while the dense model runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.mode import FlowMode


class Reference(FlowMode):
    """Follows which elements of a dense model's tensors belong to pruned channels, and leaves them out of the count.

    Labels are 1 for elements of pruned channels, which are known where layers put them out, and 0 for all others.
    """

    dtype = torch.float32

    def __init__(self, model: nn.Module, absent: dict[nn.Module, torch.Tensor]):
        """Take a model and what it lacks.

        Args:
            model (nn.Module): Dense model.
            absent (dict[nn.Module, torch.Tensor]): Layer to 1 for each of its outputs that is pruned, else 0.
        """
        super().__init__(model)
        self._absent = absent

    def attach(self, model: nn.Module) -> None:
        """Be active whenever the model runs."""
        self.hook(model)
        model.forward = partial(self._run, model, model.forward)

    def _run(self, model: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        self.reset(model)
        with self:
            return forward(*args, **kwargs)

    def made(self, layer: nn.Module, count: int) -> torch.Tensor:
        """Return which outputs of a layer are pruned."""
        return self._absent.get(layer, torch.zeros(count))

    def note(self, layer: nn.Module, axis: str, labels: torch.Tensor) -> torch.Tensor:
        """Return which channels of a layer are pruned: those on record, or those that come in."""
        return self._absent.get(layer, labels) if axis == "out" else labels

    def counted(self, func: Any, args: tuple, kwargs: dict, dim: int, output: Any) -> None:
        """Compute an operation anew without the pruned channels."""
        kept = _kept(self.channels(args[0], dim), args[0])
        result = func(args[0].index_select(dim, kept), *args[1:], **kwargs)
        for tensor, value in zip(tree_leaves(output), tree_leaves(result)):
            if tensor.shape == value.shape:
                tensor.copy_(value)
            else:  # its result has a place for each channel
                tensor.zero_().index_copy_(dim, kept, value)

    def multiplied(self, func: Any, args: tuple, factor: int, output: Any) -> None:
        """Compute a product anew with zeros for pruned channels."""
        factors = list(args)
        factors[factor] = args[factor] * (1 - self.of(args[factor])).to(args[factor])
        for tensor, value in zip(tree_leaves(output), tree_leaves(func(*factors))):
            tensor.copy_(value)

    def normalised(self, x: torch.Tensor, parameters: Any, dim: int, eps: float, output: torch.Tensor) -> None:
        """Compute a layer norm anew without the pruned channels."""
        kept = _kept(self.channels(x, dim), x)
        weight, bias = (p if p is None else p[kept] for p in parameters)
        value = F.layer_norm(x.movedim(dim, -1)[..., kept], (len(kept),), weight, bias, eps)
        output.zero_().index_copy_(dim, kept, value.movedim(-1, dim))

    def grouped(self, norm: nn.GroupNorm, x: torch.Tensor, output: torch.Tensor) -> None:
        """Compute a group norm anew without the pruned channels, of whole groups or of every group."""
        kept = _kept(self.channels(x, 1), x)
        groups = len((kept // (norm.num_channels // norm.num_groups)).unique())
        weight, bias = (p if p is None else p[kept] for p in (norm.weight, norm.bias))
        output.zero_().index_copy_(1, kept, F.group_norm(x[:, kept], groups, weight, bias, norm.eps))

    def attended(self, layer: nn.Module, channels: torch.Tensor, args: tuple, kwargs: dict, output: Any) -> None:
        """Compute an attention anew with zeros for pruned channels of what goes in, of its heads and of the result."""
        weights = layer.in_proj_weight, layer.in_proj_bias, layer.out_proj.weight
        keep = (1 - channels).to(layer.in_proj_weight)
        dense = [w if w is None else w.detach().clone() for w in weights]
        try:
            layer.in_proj_weight.data *= keep.repeat(3)[:, None] * keep
            if layer.in_proj_bias is not None:
                layer.in_proj_bias.data *= keep.repeat(3)
            layer.out_proj.weight.data *= keep
            output.copy_(layer.forward(*args, **kwargs)[0] * keep)
        finally:
            for weight, values in zip(weights, dense):
                if weight is not None:
                    weight.data.copy_(values)


def _kept(absent: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the indices of the channels that are not absent, on the device of a tensor."""
    return (absent == 0).nonzero().flatten().to(like.device)
