# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs as a formula of the channels kept, and as Ultralytics counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ultralytics.engine.pruning.groups import Group, is_depthwise
from ultralytics.engine.pruning.places import outputs
from ultralytics.utils.torch_utils import get_flops

BN_FLOPS = 8  # per element, as Ultralytics' counter has it: 4 operations, and it doubles operations to FLOPs


def count_flops(model: nn.Module, imgsz: int = 640) -> float:
    """Return the GFLOPs that Ultralytics prints for a model, `get_flops`.

    Args:
        model (nn.Module): An Ultralytics model.
        imgsz (int): Image size in pixels.

    Returns:
        (float): GFLOPs, two FLOPs per multiply-accumulate.

    Raises:
        RuntimeError: If Ultralytics' counter fails, which it reports as zero.
    """
    flops = get_flops(model, imgsz)
    if not flops:
        raise RuntimeError(
            f"Ultralytics' get_flops failed on {type(model).__name__} and returned 0.0: "
            "check that 'ultralytics-thop' is installed and that the model runs at this image size"
        )
    return flops


class FlopsFormula:
    """FLOPs of a network as a function of how many units each group keeps.

    With o and i the output and input channels of a layer, which are linear in the units kept n, a convolution costs
    2·H·W·k²·o·i, a depthwise convolution 2·H·W·k²·o and a batch norm 8·H·W·o, H·W being the output's size. This is
    what Ultralytics' counter (thop) adds up for the layers of a YOLO network.

    Attributes:
        dense (float): FLOPs with every unit kept, at the traced image size.
    """

    def __init__(self, model: nn.Module, groups: Sequence[Group], example: torch.Tensor):
        """Measure every layer's output size with one forward pass and set up the formula.

        Args:
            model (nn.Module): Model in evaluation mode.
            groups (Sequence[Group]): Groups of the model.
            example (torch.Tensor): Image of shape (1, C, H, W).
        """
        area = _output_areas(model, example)
        layers = list(area)
        row = {layer: i for i, layer in enumerate(layers)}
        per_unit = {axis: np.zeros((len(layers), len(groups))) for axis in ("out", "in")}
        for column, group in enumerate(groups):
            for s in group.slices:
                if s.layer in row:
                    per_unit[s.axis][row[s.layer], column] += len(s.channels) / group.size
        sizes = np.array([g.size for g in groups], dtype=float)
        width = {"out": [outputs(m) for m in layers], "in": [_inputs(m) for m in layers]}
        self._per_unit = per_unit
        self._fixed = {axis: np.array(width[axis]) - per_unit[axis] @ sizes for axis in ("out", "in")}
        self._pairwise = np.array([_cost_per_pair(m) * area[m] for m in layers])
        self._single = np.array([_cost_per_output(m) * area[m] for m in layers])
        self.dense = self(sizes)

    def __call__(self, kept: Sequence[float]) -> float:
        """Return the FLOPs at the traced image size.

        Args:
            kept (Sequence[float]): Units kept in each group.

        Returns:
            (float): FLOPs.
        """
        out, inp = (self._per_unit[axis] @ np.asarray(kept, dtype=float) + self._fixed[axis] for axis in ("out", "in"))
        return float(out @ (self._pairwise * inp + self._single))


def _output_areas(model: nn.Module, example: torch.Tensor) -> dict[nn.Module, int]:
    """Return H·W of the output of every convolution and batch norm, summed over the calls of one forward pass."""
    area: dict[nn.Module, int] = {}

    def record(layer: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        area[layer] = area.get(layer, 0) + output.shape[2:].numel()

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    hooks = [m.register_forward_hook(record) for m in layers]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return area


def _inputs(layer: nn.Module) -> int:
    """Return the channels of the 'in' axis; batch norms and depthwise convolutions have none."""
    return layer.in_channels if isinstance(layer, nn.Conv2d) and not is_depthwise(layer) else 0


def _cost_per_pair(layer: nn.Module) -> float:
    """Return the FLOPs per output pixel, output channel and input channel."""
    if not isinstance(layer, nn.Conv2d) or is_depthwise(layer):
        return 0
    return 2 * np.prod(layer.kernel_size) / layer.groups


def _cost_per_output(layer: nn.Module) -> float:
    """Return the FLOPs per output pixel and output channel."""
    if isinstance(layer, nn.BatchNorm2d):
        return BN_FLOPS
    return 2 * np.prod(layer.kernel_size) if is_depthwise(layer) else 0
