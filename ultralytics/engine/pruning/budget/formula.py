# SPDX-License-Identifier: AGPL-3.0-or-later
"""Costs that are sums over layers of terms in their output channels and in pairs of output and input channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.graph.places import MAKERS, inputs, loses_groups
from ultralytics.engine.pruning.graph.widths import Widths


class ChannelFormula:
    """Cost of a network as a function of how many units each group keeps.

    With o and i the output and input channels of a layer, which are linear in the units kept, the cost is the sum over
    the layers of o · (a·i + b), and a rest.

    Attributes:
        dense (float): Cost with every unit kept.
        rest (float): Cost of everything that does not depend on the units.
        layers (list[nn.Module]): The layers, in the order of the forward pass.
        widths (Widths): Widths of the layers.
        unit (str): What is counted, for messages.
        outside (str): Of what the rest is, for messages.
    """

    has_steps = False
    step = 1
    outside = "it is no layer whose channels count"

    def __init__(
        self, terms: Mapping[nn.Module, tuple[float, float]], groups: Sequence[Group], dense: float, unit: str
    ):
        """Set up the formula.

        Args:
            terms (Mapping[nn.Module, tuple[float, float]]): Layer to its a, per pair of channels, and b, per output.
            groups (Sequence[Group]): Groups of the model that has the layers.
            dense (float): Cost of the whole model, from which the rest is taken.
            unit (str): What is counted, for messages.
        """
        self.layers, self.unit = list(terms), unit
        self.widths = Widths(terms, groups)
        self._pairwise, self._single = np.array(list(terms.values()), dtype=float).T
        self.rest = 0.0
        self.rest = dense - float(self(self.widths.sizes))
        self.dense = float(self(self.widths.sizes))

    def __call__(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the cost.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (..., groups).

        Returns:
            (np.ndarray): Cost, shape (...).
        """
        return self._per_layer(kept).sum(-1) + self.rest

    def costs(self, kept: Sequence[float] | np.ndarray) -> dict[nn.Module, float]:
        """Return the cost of each layer, in the order of the forward pass.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (groups,).
        """
        return dict(zip(self.layers, self._per_layer(kept).tolist()))

    def _per_layer(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        out, inp = self.widths(np.asarray(kept, dtype=float))
        return out * (self._pairwise * inp + self._single)


def weights_per_pair(layer: nn.Module) -> float:
    """Return the weights per output and input channel of anything that has channels; 0 where they do not meet."""
    if isinstance(layer, nn.Linear):
        return 1.0
    if isinstance(layer, nn.MultiheadAttention):
        return 4.0  # four projections
    if not isinstance(layer, MAKERS) or loses_groups(layer):
        return 0.0
    return float(np.prod(layer.kernel_size)) / layer.groups


def weights_per_output(layer: nn.Module) -> float:
    """Return the weights per output channel of a convolution that loses whole groups, whose inputs stay."""
    if isinstance(layer, nn.Linear) or not isinstance(layer, MAKERS) or not loses_groups(layer):
        return 0.0
    return float(np.prod(layer.kernel_size)) * (inputs(layer) // layer.groups)
