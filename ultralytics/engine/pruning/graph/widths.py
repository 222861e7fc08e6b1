# SPDX-License-Identifier: AGPL-3.0-or-later
"""The widths of layers as linear functions of how many units each group keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import nn

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.graph.places import MAKERS, inputs, is_depthwise, width

AXES = ("out", "in")


class Widths:
    """Output and input channels of layers as functions of the units kept.

    Attributes:
        sizes (np.ndarray): Units of each group, shape (groups,).
    """

    def __init__(self, layers: Iterable[nn.Module], groups: Sequence[Group]):
        """Find what a unit of each group adds to the width of each layer.

        Args:
            layers (Iterable[nn.Module]): Layers of a model in prunable form.
            groups (Sequence[Group]): Groups of the model.
        """
        layers = list(layers)
        self.sizes = np.array([g.size for g in groups], dtype=float)
        row = {layer: i for i, layer in enumerate(layers)}
        self._per_unit = {axis: np.zeros((len(groups), len(row))) for axis in AXES}
        for g, group in enumerate(groups):
            for s in [*group.slices, *group.riders]:
                if s.layer in row:
                    for axis in AXES if is_square(s.layer) else (s.axis,):
                        self._per_unit[axis][g, row[s.layer]] += len(s.channels) / group.size
        dense = {"out": [width(m, "out") for m in layers], "in": [paired_inputs(m) for m in layers]}
        self._fixed = {axis: np.array(dense[axis]) - self.sizes @ self._per_unit[axis] for axis in AXES}

    def __call__(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the output and input channels of every layer.

        Args:
            kept (np.ndarray): Units kept in each group, shape (..., groups).

        Returns:
            out (np.ndarray): Output channels, shape (..., layers).
            inp (np.ndarray): Input channels; none for norms and depthwise convolutions, shape (..., layers).
        """
        out, inp = (kept @ self._per_unit[axis] + self._fixed[axis] for axis in AXES)
        return out, inp


def is_square(layer: nn.Module) -> bool:
    """Return True for a layer that has as many input channels as output channels, always."""
    return isinstance(layer, nn.MultiheadAttention)


def paired_inputs(layer: nn.Module) -> int:
    """Return the channels of the 'in' axis; norms and depthwise convolutions have none."""
    if is_square(layer):
        return width(layer, "out")
    return inputs(layer) if isinstance(layer, MAKERS) and not is_depthwise(layer) else 0
