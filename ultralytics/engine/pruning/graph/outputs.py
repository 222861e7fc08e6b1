# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a network puts out, in inference and as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ultralytics.engine.pruning.graph.mode import FAILURES


def flatten(output: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a nested output by their path, less the features that go into the head.

    Args:
        output (Any): Tensor, or dicts, lists, tuples and dataclasses with tensors; what else they hold does not count.
        name (str): Path of the output itself.
    """
    if isinstance(output, torch.Tensor):
        return {name: output}
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(output, dict):
        items = output.items()
    elif isinstance(output, (list, tuple)):
        items = enumerate(output)
    elif is_dataclass(output):
        items = vars(output).items()
    parts = (flatten(part, f"{name}.{key}".lstrip(".")) for key, part in items if key != "feats")
    return {path: tensor for part in parts for path, tensor in part.items()}


def set_in_training(model: nn.Module) -> nn.Module:
    """Let a model run as in training, but for norms, which count on several images, and dropouts, and return it."""
    model.train()
    for module in model.modules():
        if isinstance(module, (_NormBase, nn.Dropout)):
            module.eval()
    return model


@contextmanager
def for_a_while(model: nn.Module, set_mode: Callable[[nn.Module], nn.Module]) -> Iterator[nn.Module]:
    """Let a model run in another mode, and take back what its blocks then write into buffers.

    Args:
        model (nn.Module): Model, which is left as it was.
        set_mode (Callable): Sets the mode, i.e. `set_in_training` or `nn.Module.eval`.
    """
    modes = [(module, module.training, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield set_mode(model)
    finally:
        for module, training, buffers in modes:
            module.training = training
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def runs(model: nn.Module, image: torch.Tensor) -> bool:
    """Return True if a model runs on an image; some have numbers for one size alone, or code for one precision."""
    try:
        with torch.no_grad():
            model(image)
    except FAILURES:
        return False
    return True
