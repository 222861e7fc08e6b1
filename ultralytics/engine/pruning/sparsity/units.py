# SPDX-License-Identifier: AGPL-3.0-or-later
"""The units of all groups numbered through, as they lie in the layers of the stock model in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.places import channel_sums, inputs, stock_places, weight_dim

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.groups import Graph, Group


@dataclass(frozen=True)
class Share:
    """What the units hold of one weight.

    Attributes:
        layer (str): Name of the stock layer.
        is_norm (bool): The layer is a batch norm.
        dim (int): Dimension of the weight that the units share out, 0 for outputs and 1 for inputs.
        unit (torch.Tensor): Unit of each channel, shape (channels,); the number of all units for one that no group
            holds.
    """

    layer: str
    is_norm: bool
    dim: int
    unit: torch.Tensor

    def spread(self, values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return a value per unit in a shape that multiplies the weight; zero for channels of no unit.

        Args:
            values (torch.Tensor): Shape (units,).
            weight (torch.Tensor): The layer's weight.

        Returns:
            (torch.Tensor): Shape (channels,) with a dimension for every further one of the weight; of a grouped
                convolution whose dimension 1 counts the channels of one group, that of the weight's first two.
        """
        spread = torch.cat([values, values.new_zeros(1)])[self.unit]
        if (groups := self._groups(weight)) > 1:
            rows, columns = weight.shape[:2]
            own = spread.view(groups, 1, columns).expand(-1, rows // groups, -1).reshape(rows, columns)
            return own[(...,) + (None,) * (weight.dim() - 2)]
        shape = [1] * weight.dim()
        shape[self.dim] = -1
        return spread.view(shape)

    def gathered(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values of the weight's shape for each channel, shape (channels,)."""
        return channel_sums(values, self.dim, self._groups(values))

    def _groups(self, weight: torch.Tensor) -> int:
        """Return the groups of a convolution of whose channels dimension 1 counts those of one, 1 for another."""
        return len(self.unit) // weight.shape[1] if self.dim == 1 else 1


class Units:
    """Units of a stock model, numbered through all groups.

    Attributes:
        shares (list[Share]): Every weight that units hold channels of.
        group (torch.Tensor): Number of each unit's group, shape (units,).
    """

    def __init__(self, graph: Graph):
        """Number the units and find their channels in the stock model.

        Args:
            graph (Graph): Graph of the model in prunable form, on the device that the stock model is on.
        """
        device = graph.example.device
        sizes = torch.tensor([group.size for group in graph.groups])
        self.group = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
        self.groups = len(sizes)
        self.shares = [
            Share(layer, is_norm, dim, unit.to(device))
            for (layer, is_norm, dim), unit in _stock_channels(graph.model, graph.groups).items()
        ]

    def __len__(self) -> int:
        """Return how many units there are."""
        return len(self.group)

    def weights(self, model: nn.Module, norms_only: bool = False) -> Iterator[tuple[Share, nn.Parameter]]:
        """Yield every share with its weight in a model.

        Args:
            model (nn.Module): The stock model or a copy of it.
            norms_only (bool): Batch norms alone.

        Yields:
            (tuple[Share, nn.Parameter]): Share and weight.
        """
        for share in self.shares:
            if share.is_norm or not norms_only:
                yield share, model.get_submodule(share.layer).weight

    def total(
        self, model: nn.Module, measure: Callable[[torch.Tensor], torch.Tensor], norms_only: bool = False
    ) -> torch.Tensor:
        """Add up a measure of every weight over the weights that each unit holds.

        Args:
            model (nn.Module): The stock model or a copy of it.
            measure (Callable): Weight to values of the same shape.
            norms_only (bool): Batch norms alone.

        Returns:
            (torch.Tensor): Totals of shape (units,), float32.
        """
        values, unit = [], []
        for share, weight in self.weights(model, norms_only):
            values.append(share.gathered(measure(weight.detach().float())))
            unit.append(share.unit)
        totals = torch.zeros(len(self) + 1, device=self.group.device)
        return totals.index_add_(0, torch.cat(unit), torch.cat(values))[:-1]

    def extreme(self, values: torch.Tensor, which: str) -> torch.Tensor:
        """Return the 'amax' or 'amin' of each unit's group, shape (units,)."""
        extremes = values.new_zeros(self.groups).scatter_reduce(0, self.group, values, which, include_self=False)
        return extremes[self.group]

    def removed(self, kept: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return True for the units of each group that are not among those it keeps, shape (units,)."""
        sizes = torch.bincount(self.group, minlength=self.groups).tolist()
        gone = torch.ones(len(self), dtype=torch.bool)
        start = 0
        for size, keep in zip(sizes, kept):
            gone[start + keep] = False
            start += size
        return gone.to(self.group.device)


def _stock_channels(model: nn.Module, groups: Sequence[Group]) -> dict[tuple[str, bool, int], torch.Tensor]:
    """Return the unit of every channel of the stock model that a group holds.

    Args:
        model (nn.Module): Model in prunable form, to which the groups belong.
        groups (Sequence[Group]): Groups.

    Returns:
        (dict[tuple[str, bool, int], torch.Tensor]): Name of the stock layer, whether it is a batch norm, and dimension
            of its weight to the unit of each channel.
    """
    places = stock_places(model)
    pieces: dict[tuple[str, bool, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
    widths: dict[tuple[str, bool, int], int] = {}

    def locate(layer: nn.Module, axis: str) -> tuple[tuple[str, bool, int], torch.Tensor]:
        name, index = places[layer]
        key = name, isinstance(layer, _BatchNorm), weight_dim(layer, axis)
        return key, index if axis == "out" else torch.arange(inputs(layer))

    for layer in places:
        for axis in ("out",) if isinstance(layer, _BatchNorm) else ("out", "in"):
            key, index = locate(layer, axis)
            widths[key] = max(widths.get(key, 0), int(index.max()) + 1)
    first = 0
    for group in groups:
        for s in group.slices:
            key, index = locate(s.layer, s.axis)
            # the parts of one stock layer read the same input, and so say the same of its channels
            pieces.setdefault(key, []).append((index[s.channels], s.units + first))
        first += group.size
    channels = {}
    for key, parts in pieces.items():
        channels[key] = torch.full((widths[key],), first)
        for index, unit in parts:
            channels[key][index] = unit
    return channels
