# SPDX-License-Identifier: AGPL-3.0-or-later
"""How channels flow through a network: what the labels of its tensors are, and what is to happen where they meet."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.labels import NONE


class Flow:
    """Labels for the elements of all tensors of a network that runs; what they mean is up to the subclass.

    Attributes:
        names (dict[nn.Module, str]): Names of the modules.
        dtype (torch.dtype): Type of the labels; a floating one, so that whatever moves values can move labels.
    """

    dtype = torch.float64  # in which integers are exact

    def __init__(self, model: nn.Module):
        """Take a network.

        Args:
            model (nn.Module): Model.
        """
        super().__init__()
        self.names: dict[nn.Module, str] = {}
        for name, module in model.named_modules():
            self.names.setdefault(module, name)
        self.reset(model)

    def reset(self, model: nn.Module) -> None:
        """Forget all labels, before the network runs."""
        self._of = WeakTensorKeyDictionary()
        self._stack: list[nn.Module] = [model]

    def tie(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Take note that labels meet, of two tensors whose shapes broadcast."""

    def hold(self, labels: torch.Tensor, what: str) -> None:
        """Take note that channels must stay, and why."""

    def keep(self, tensors: Any, what: str) -> None:
        """Take note that the channels of tensors must stay.

        Args:
            tensors (Any): Tensor, or tensors in containers.
            what (str): Why.
        """
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor) and self.is_labelled(tensor):
                self.hold(self.of(tensor), what)

    def note(self, layer: nn.Module, axis: str, labels: torch.Tensor) -> torch.Tensor:
        """Take note of the labels of a layer's channels, and return those that hold for all of its calls."""
        return labels

    def made(self, layer: nn.Module, count: int) -> torch.Tensor:
        """Return the labels of channels that a layer makes."""
        raise NotImplementedError

    def met(self, labels: torch.Tensor, constant: torch.Tensor) -> None:
        """Take note that channels meet numbers, one or more for each, that belong to no channel."""

    def is_trusted(self) -> bool:
        """Return True if the block that is running need not be asked how it cuts up its channels."""
        return True

    def told(self, number: int, channels: torch.Tensor) -> None:
        """Take note that a block may hold a number of channels, and which these are."""

    def doubt(self, labels: torch.Tensor, what: str) -> None:
        """Take note of an operation that may count on a number of channels."""

    def counted(self, func: Any, args: tuple, kwargs: dict, dim: int, output: Any) -> None:
        """Take note that an operation counts the channels of its first argument, which lie along one dimension."""

    def multiplied(self, func: Any, args: tuple, factor: int, output: Any) -> None:
        """Take note that a product sums over the channels of one of its factors."""

    def normalised(self, x: torch.Tensor, parameters: Any, dim: int, eps: float, output: torch.Tensor) -> None:
        """Take note of a layer norm over the channels along a dimension."""

    def grouped(self, norm: nn.GroupNorm, x: torch.Tensor, output: torch.Tensor) -> None:
        """Take note of a group norm."""

    def attended(self, layer: nn.Module, channels: torch.Tensor, args: tuple, kwargs: dict, output: Any) -> None:
        """Take note of an attention in heads."""

    def comparable(self, labels: torch.Tensor, dim: int) -> torch.Tensor:
        """Return labels so that those which go together are equal, to be compared along a dimension."""
        return labels

    @property
    def block(self) -> nn.Module:
        """Return the innermost module that is running."""
        return self._stack[-1]

    def where(self) -> str:
        """Return the innermost module that is running, by name and class."""
        return f"{self.names.get(self.block) or 'the model'} ({type(self.block).__name__})"

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the labels of a tensor, of its shape; changing them in place changes them for its views as well."""
        labels = self._of.get(tensor)
        if labels is None:
            labels = self._of[tensor] = self.begin(tensor)
        return labels

    def begin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the labels of a tensor that nothing has labelled yet."""
        return torch.full(tensor.shape, NONE, dtype=self.dtype)

    def is_labelled(self, tensor: torch.Tensor) -> bool:
        """Return True if some of a tensor's elements belong to a channel."""
        labels = self._of.get(tensor)
        return labels is not None and bool((labels != NONE).any())

    def set(self, tensor: torch.Tensor, labels: torch.Tensor) -> None:
        """Give a tensor its labels."""
        self._of[tensor] = labels

    def set_channels(self, tensor: torch.Tensor, channels: torch.Tensor, dim: int) -> None:
        """Label a tensor by the index along one dimension."""
        shape = [1] * tensor.dim()
        shape[dim] = -1
        self.set(tensor, channels.view(shape).expand(tensor.shape).contiguous())

    def channels(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """Return one label for each index along a dimension; labels that differ along the others are tied.

        Args:
            tensor (torch.Tensor): Tensor.
            dim (int): Dimension of its channels.

        Returns:
            (torch.Tensor): Labels of shape (tensor.shape[dim],).
        """
        rows = self.of(tensor).movedim(dim, 0).reshape(tensor.shape[dim], -1)
        first = rows.amax(1)
        self.tie(first[:, None], rows)
        return first

    def varies(self, labels: torch.Tensor, dim: int) -> bool:
        """Return True if labels differ along a dimension."""
        roots = self.comparable(labels, dim)
        return bool((roots != roots.narrow(dim, 0, 1)).any())

    def varying(self, labels: torch.Tensor) -> list[int]:
        """Return the dimensions along which labels differ."""
        return [dim for dim, size in enumerate(labels.shape) if size > 1 and self.varies(labels, dim)]
