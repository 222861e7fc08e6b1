# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency as a function of the channels kept, from a table of measured convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import stock_places
from ultralytics.engine.pruning.graph.widths import Widths
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.engine.pruning.latency.table import Times

TERMS = ([0, 1, 2], [1, 2], [0, 1])  # rest, convolutions and weights of which a network's time may consist
MOST_POWER = 1.5  # of a network that got faster than its convolutions did, which noise exaggerates


class LatencyFormula:
    """Milliseconds of a network as a function of how many units each group keeps.

    It follows from the sum over the convolutions of the stock network, each of which may be several layers of its
    prunable form. Measured by themselves they take another time than in a network, and what is between them
    (concatenations, pooling, copies) shrinks as they do: so the whole is taken in proportion, until a pruned network
    was measured.

    Attributes:
        dense (float): Milliseconds with every unit kept.
        rest (float): Milliseconds of everything else.
        widths (Widths): Widths of the layers.
        step (int): Output channels of which the device likes multiples.
    """

    has_steps = True
    unit = "milliseconds"
    outside = "it is no convolution"

    def __init__(
        self,
        graph: Graph,
        shapes: dict[str, list[ConvShape]],
        table: Times,
        rest: float = 0.0,
        whole: WholeTime | None = None,
    ):
        """Look up every convolution.

        Args:
            graph (Graph): Graph of the network, pruned before or not.
            shapes (dict[str, list[ConvShape]]): Stock layer name to its shapes before any pruning, `conv_shapes`.
            table (Times): Table in which they have been measured.
            rest (float): Milliseconds of everything else.
            whole (WholeTime, optional): How the network's time follows from theirs, instead of the rest.
        """
        parts = {layer: stock for layer, (stock, _) in stock_places(graph.model).items() if stock in shapes}
        self._layers = list(parts)
        self.widths = Widths(parts, graph.groups)
        names = list(dict.fromkeys(parts.values()))
        self._of = of = np.array([names.index(stock) for stock in parts.values()])
        self._sum_of_parts = (of[:, None] == np.arange(len(names))).astype(float)  # outputs of the parts add up
        self._first_part = [int(np.argmax(of == i)) for i in range(len(names))]  # all parts read the same inputs
        self._times = _stacked([np.sum([table.curve(s, "out") for s in shapes[name]], axis=0) for name in names])
        self._shares = _stacked([np.mean([table.shares(s) for s in shapes[name]], axis=0) for name in names])
        self._every = np.arange(len(names))
        self.step = table.step(s for calls in shapes.values() for s in calls)
        self.whole = whole or WholeTime(rest=rest)
        self.dense = float(self(self.widths.sizes))

    def __call__(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the milliseconds.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (..., groups).

        Returns:
            (np.ndarray): Milliseconds, shape (...).
        """
        return self.whole(self._per_convolution(kept).sum(-1))

    @property
    def rest(self) -> float:
        """Return the milliseconds that pruning does not take away."""
        return self.whole.rest

    def costs(self, kept: Sequence[float] | np.ndarray) -> dict[nn.Module, float]:
        """Return the milliseconds of each layer; parts of one convolution share its time by their outputs.

        Args:
            kept (Sequence[float] | np.ndarray): Units kept in each group, shape (groups,).
        """
        out, _ = self.widths(np.asarray(kept, dtype=float))
        times = self._per_convolution(kept)
        in_network = (self.whole(times.sum()) - self.rest) / times.sum()
        per_output = in_network * times / (out @ self._sum_of_parts)
        return dict(zip(self._layers, (per_output[self._of] * out).tolist()))

    def _per_convolution(self, kept: Sequence[float] | np.ndarray) -> np.ndarray:
        out, inp = self.widths(np.asarray(kept, dtype=float))
        out, inp = (np.rint(n).astype(int) for n in (out @ self._sum_of_parts, inp[..., self._first_part]))
        return self._times[self._every, out] * self._shares[self._every, inp]


class WholeTime(NamedTuple):
    """Milliseconds of a whole network as a function of those of its convolutions by a table, c: rest + scale · c^power.

    Attributes:
        scale (float): See there; 1 for a table that holds the times of convolutions in the network.
        rest (float): What pruning does not take away.
        power (float): 1 unless a pruned network was faster than in proportion.
    """

    scale: float = 1.0
    rest: float = 0.0
    power: float = 1.0

    def __call__(self, convolutions: np.ndarray | float) -> np.ndarray:
        """Return the milliseconds of the network."""
        return self.rest + self.scale * np.asarray(convolutions) ** self.power


def fit_whole(dense: tuple[float, float], pruned: tuple[float, float] | None = None) -> WholeTime:
    """Fit how the milliseconds of a whole network follow from those of its convolutions.

    Args:
        dense (tuple[float, float]): Convolutions by the table and whole network, before pruning.
        pruned (tuple[float, float], optional): The same of a pruned network that was measured.

    Returns:
        (WholeTime): In proportion as long as nothing pruned was measured, or that was slower with less to do, which is
            noise; else through both networks.
    """
    convolutions, whole = dense
    if not pruned or not (pruned[0] < convolutions and pruned[1] < whole):
        return WholeTime(whole / convolutions)
    scale = (whole - pruned[1]) / (convolutions - pruned[0])
    if (rest := whole - scale * convolutions) >= 0:
        return WholeTime(scale, rest)
    power = min(float(np.log(whole / pruned[1]) / np.log(convolutions / pruned[0])), MOST_POWER)
    return WholeTime(whole / convolutions**power, power=power)


def time_of_weights(networks: Sequence[tuple[float, float, float]]) -> float:
    """Return what a weight costs a network beside the time of its convolutions measured by themselves.

    By itself a convolution finds its weights in the cache from one run to the next; in a network they have left it. So
    networks of equally slow convolutions differ by their weights: whole = rest + scale · (convolutions + it · weights).

    Args:
        networks (Sequence[tuple[float, float, float]]): Milliseconds of the convolutions by the table, number of their
            weights, and milliseconds of the whole network.

    Returns:
        (float): Milliseconds per weight, in the table's; 0 if three networks do not tell, or speak against it.
    """
    if len(networks) < len(TERMS):
        return 0.0
    values = np.array(networks)
    most = values[:, 1].max()
    terms = np.column_stack([np.ones(len(values)), values[:, 0], values[:, 1] / most]) / values[:, 2:]
    for chosen in TERMS:
        found, *_ = np.linalg.lstsq(terms[:, chosen], np.ones(len(values)), rcond=None)
        if (found > 0).all():
            factors = dict(zip(chosen, found.tolist()))
            return factors.get(2, 0.0) / factors[1] / most
    return 0.0


def convolutions_time(dense: dict[str, list[ConvShape]], left: dict[str, list[ConvShape]], table: Times) -> float:
    """Return the milliseconds of a pruned network's convolutions by a table.

    Args:
        dense (dict[str, list[ConvShape]]): Layer name to shapes before pruning, `conv_shapes`.
        left (dict[str, list[ConvShape]]): The same after it.
        table (Times): Table in which those before pruning have been measured.
    """
    return sum(table.time(before, after) for name in dense for before, after in zip(dense[name], left[name]))


def _stacked(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Return curves of different lengths as one array, shape (curves, longest)."""
    longest = max(map(len, curves))
    return np.stack([np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves])
