# SPDX-License-Identifier: AGPL-3.0-or-later
"""Products that a network computes between its layers, i.e. of queries with keys, and their FLOPs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Products(TorchFunctionMode):
    """Counts products by the innermost module that computes them, as Ultralytics' counter (thop) does for the whole.

    Attributes:
        flops (dict[nn.Module, float]): Module to the FLOPs of its own products.
    """

    def __init__(self, model: nn.Module):
        """Take a model, to be run while the mode is entered."""
        # older releases count no products, and theirs has no such table
        from thop.profile import functional_hooks, register_hooks

        super().__init__()
        self._rules, self._layers = functional_hooks, register_hooks
        self.flops: dict[nn.Module, float] = defaultdict(float)
        self._running = [model]
        self.hooks = [m.register_forward_pre_hook(self._begin) for m in model.modules()]
        self.hooks += [m.register_forward_hook(self._end) for m in model.modules()]

    def _begin(self, module: nn.Module, _args: tuple) -> None:
        self._running.append(module)

    def _end(self, _module: nn.Module, _args: tuple, _output: Any) -> None:
        self._running.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run a function and count it, unless it is a layer's own."""
        output = func(*args, **(kwargs or {}))
        module = self._running[-1]
        if func in self._rules and not any(kind in self._layers for kind in type(module).__mro__):
            self.flops[module] += 2 * self._rules[func](args, kwargs or {}, output)
        return output


def product_flops(model: nn.Module, example: torch.Tensor, pixels: int) -> dict[nn.Module, float]:
    """Return the FLOPs of the products between the layers, for an image of another size.

    They grow with the square of the number of pixels at most, so three images of growing width tell the rest.

    Args:
        model (nn.Module): Model in evaluation mode.
        example (torch.Tensor): Image that it takes, of shape (1, C, H, W).
        pixels (int): Pixels of the image that the FLOPs are for.

    Returns:
        (dict[nn.Module, float]): Module to the FLOPs of its own products, of those that have any.
    """
    samples = []
    for widths in (1, 2, 3):
        counter = Products(model)
        try:
            with torch.no_grad(), counter:
                model(example.repeat(1, 1, 1, widths))
        finally:
            for hook in counter.hooks:
                hook.remove()
        samples.append(counter.flops)
    growth = pixels / example.shape[2:].numel()
    return {module: extrapolate([sample[module] for sample in samples], growth) for module in samples[0]}


def extrapolate(samples: list[float], growth: float) -> float:
    """Return a cost that grows with the square of the number of pixels at most, for an image of another size.

    Args:
        samples (list[float]): Cost of an image, and of ones of twice and three times its width.
        growth (float): Pixels of the other image over those of the first.

    Returns:
        (float): Its cost, by Newton's forward differences.
    """
    first, second, third = samples
    t = growth - 1
    return first + t * (second - first) + t * (t - 1) / 2 * (third - 2 * second + first)
