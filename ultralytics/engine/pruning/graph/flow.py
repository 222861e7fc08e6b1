# SPDX-License-Identifier: AGPL-3.0-or-later
"""How channels flow through a network: a mode in which every tensor carries a label for each of its elements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from ultralytics.engine.pruning.graph.labels import NONE
from ultralytics.engine.pruning.graph.layers import find_rule
from ultralytics.engine.pruning.graph.operations import follow

FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a forward pass, or a rule that meets what it was not made for, may raise."""


class Flow(TorchDispatchMode):
    """Labels for the elements of all tensors, followed while a network runs.

    Layers follow rules of their own (`layers`). Between them every operation is seen as PyTorch executes it, below
    autograd (`operations`): one that only moves values moves the labels likewise. What labels mean, and what happens
    where they meet, is up to the subclass.

    Attributes:
        names (dict[nn.Module, str]): Names of the modules.
        dtype (torch.dtype): Type of the labels; a floating one, so that whatever moves values can move labels.
    """

    dtype = torch.float64  # in which integers are exact

    def __init__(self, model: nn.Module):
        """Take a network, to be run while the mode is entered.

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
        self._quiet = 0

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

    def is_trusted(self) -> bool:
        """Return True if channels that are cut up need not be tied."""
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and follow it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not self._quiet:
            with self.quiet():
                try:
                    follow(self, func, args, kwargs, output)
                except FAILURES as error:
                    self.keep([args, kwargs, output], f"its channels cannot be followed through '{func}' ({error})")
        return output

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Do not follow what is executed meanwhile."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def hook(self, model: nn.Module) -> list[RemovableHandle]:
        """Let the modules of a network report when they begin and end."""
        hooks = []
        for module in self.names:
            hooks.append(module.register_forward_pre_hook(self.enter, with_kwargs=True, prepend=True))
            hooks.append(module.register_forward_hook(self.leave, with_kwargs=True))
        return hooks

    def enter(self, module: nn.Module, _args: tuple, _kwargs: dict) -> None:
        """Note that a module begins; what happens inside a layer that has a rule is not followed."""
        self._stack.append(module)
        if find_rule(module):
            self._quiet += 1

    def leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Apply the rule of a layer that ends."""
        if rule := find_rule(module):
            if self._quiet == 1:
                try:
                    rule(self, module, *args, **kwargs, output=output)
                except FAILURES as error:
                    self.keep([args, kwargs, output], f"its channels cannot be followed ({error})")
            self._quiet -= 1
        self._stack.pop()

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
