# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency as a function of the channels kept, from a table of measured convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import stock_places
from ultralytics.engine.pruning.graph.widths import Widths
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.engine.pruning.latency.table import LatencyTable


class LatencyFormula:
    """Milliseconds of a network as a function of how many units each group keeps.

    The sum over the convolutions of the stock network, which may be several layers of its prunable form, and a
    remainder that does not depend on the units.

    Attributes:
        dense (float): Milliseconds with every unit kept.
        rest (float): Milliseconds of everything else.
        widths (Widths): Widths of the layers.
    """

    unit = "milliseconds"
    outside = "it is no convolution"

    def __init__(self, graph: Graph, shapes: dict[str, list[ConvShape]], table: LatencyTable, rest: float = 0.0):
        """Look up every convolution.

        Args:
            graph (Graph): Graph of the network, pruned before or not.
            shapes (dict[str, list[ConvShape]]): Stock layer name to its shapes before any pruning, `conv_shapes`.
            table (LatencyTable): Table in which they have been measured.
            rest (float): Milliseconds of everything else.
        """
        parts = {layer: stock for layer, (stock, _) in stock_places(graph.model).items() if stock in shapes}
        self._layers = list(parts)
        self.widths = Widths(parts, graph.groups)
        names = list(dict.fromkeys(parts.values()))
        self._of = of = np.array([names.index(stock) for stock in parts.values()])
        self._sum_of_parts = (of[:, None] == np.arange(len(names))).astype(float)  # outputs of the parts add up
        self._first_part = [int(np.argmax(of == i)) for i in range(len(names))]  # all parts read the same inputs
        self._times = _stacked([np.sum([table.curve(s, "out") for s in shapes[name]], axis=0) for name in names])
        self._shares = _stacked([np.mean([_share_by_inputs(s, table) for s in shapes[name]], axis=0) for name in names])
        self._every = np.arange(len(names))
        self.rest = rest
        self.dense = float(self(self.widths.sizes))

    def __call__(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the milliseconds.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (..., groups).

        Returns:
            (np.ndarray): Milliseconds, shape (...).
        """
        return self._per_convolution(kept).sum(-1) + self.rest

    def costs(self, kept: Sequence[float] | np.ndarray) -> dict[nn.Module, float]:
        """Return the milliseconds of each layer; parts of one convolution share its time by their outputs.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (groups,).
        """
        out, _ = self.widths(np.asarray(kept, dtype=float))
        per_output = self._per_convolution(kept) / (out @ self._sum_of_parts)
        return dict(zip(self._layers, (per_output[self._of] * out).tolist()))

    def _per_convolution(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        out, inp = self.widths(np.asarray(kept, dtype=float))
        out, inp = (np.rint(n).astype(int) for n in (out @ self._sum_of_parts, inp[..., self._first_part]))
        return self._times[self._every, out] * self._shares[self._every, inp]


def _share_by_inputs(shape: ConvShape, table: LatencyTable) -> np.ndarray:
    """Return the share of a convolution's time that is left by its number of inputs, shape (inputs + 1,)."""
    if shape.depthwise:
        return np.ones(1)
    curve = table.curve(shape, "in")
    return curve / curve[-1]


def _stacked(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Return curves of different lengths as one array, shape (curves, longest)."""
    longest = max(map(len, curves))
    return np.stack([np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves])
