# SPDX-License-Identifier: AGPL-3.0-or-later
"""The mode in which PyTorch reports every operation of a network, so that labels follow its tensors."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.hooks import RemovableHandle

from ultralytics.engine.pruning.graph.flow import Flow
from ultralytics.engine.pruning.graph.layers import find_rule
from ultralytics.engine.pruning.graph.operations import follow

FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a forward pass, or a rule that meets what it was not made for, may raise."""


class FlowMode(Flow, TorchDispatchMode):
    """Follows labels while a network runs and the mode is entered.

    Layers follow rules of their own (`layers`). Between them every operation is seen as PyTorch executes it, below
    autograd (`operations`): one that only moves values moves the labels likewise.
    """

    def reset(self, model: nn.Module) -> None:
        """Forget all labels, before the network runs."""
        super().reset(model)
        self._layers = 0  # with a rule that are running, one in another

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and follow it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not self._layers:
            with _disable_current_modes():
                try:
                    follow(self, func, args, kwargs, output)
                except FAILURES as error:
                    self.keep([args, kwargs, output], f"its channels cannot be followed through '{func}' ({error})")
        return output

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
            self._layers += 1

    def leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Apply the rule of a layer that ends."""
        if rule := find_rule(module):
            self._layers -= 1
            if not self._layers:
                args, kwargs = input_first(args, kwargs)
                with _disable_current_modes():
                    try:
                        rule(self, module, *args, **kwargs, output=output)
                    except FAILURES as error:
                        self.keep([args, kwargs, output], f"its channels cannot be followed ({error})")
                    self.passed(module)
        self._stack.pop()

    def passed(self, layer: nn.Module) -> None:
        """Take note that the rule of a layer has been applied."""


def input_first(args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Return the arguments of a layer with its input in the first place, which may have been given by its name."""
    if args or "input" not in kwargs:
        return args, kwargs
    return (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
