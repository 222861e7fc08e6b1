# SPDX-License-Identifier: AGPL-3.0-or-later
"""Groups: which channels of which layers go together when one of them is removed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.heads import find_ends
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, BareTensor, is_depthwise, is_weighed
from ultralytics.engine.pruning.graph.trace import trace
from ultralytics.nn.extra_modules.prunable import equal_inputs

Place = tuple[nn.Module, str]  # layer and axis


@dataclass(frozen=True)
class Slice:
    """Channels of one layer that a group holds.

    Attributes:
        layer (nn.Module): A convolution or batch norm.
        axis (str): 'out' for output channels, 'in' for input channels. The one channel axis of a batch norm or a
            depthwise convolution is 'out'.
        channels (torch.Tensor): Indices of the layer's channels, shape (N,).
        units (torch.Tensor): The unit of the group that each of these channels belongs to, shape (N,).
    """

    layer: nn.Module
    axis: str
    channels: torch.Tensor
    units: torch.Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """Units of channels that can be removed independently of each other, and what each holds in every layer.

    A unit is the smallest set of channels that must go together: usually one channel of a convolution, its batch norm
    and the matching input channel of every consumer.

    Attributes:
        name (str): Name of the convolution from which the group was found.
        size (int): Number of units.
        slices (list[Slice]): The convolutions, linear layers and batch norms that the group touches, by whose weights
            its units are ranked.
        riders (list[Slice]): What else loses channels with them: layers of other kinds and bare parameters.
        doubt (str): What on their way may count on a number of channels, or an empty string.
    """

    name: str
    size: int
    slices: list[Slice]
    riders: list[Slice] = field(default_factory=list)
    doubt: str = ""

    def convs(self, axis: str) -> Iterable[Slice]:
        """Yield the slices of convolutions and linear layers on one axis."""
        return (s for s in self.slices if s.axis == axis and isinstance(s.layer, MAKERS))

    def has_norms(self) -> bool:
        """Return True if a batch norm belongs to the units."""
        return any(isinstance(s.layer, _BatchNorm) for s in self.slices)

    def shared_out(self, convs: Sequence[nn.Conv2d]) -> torch.Tensor | None:
        """Return the units that each of some convolutions reads, if they read all units and equally many each.

        Args:
            convs (Sequence[nn.Conv2d]): Convolutions that read parts of one tensor.

        Returns:
            (torch.Tensor | None): Units of shape (convolutions, units each).
        """
        units = [s.units for conv in convs for s in self.slices if s.layer is conv and s.axis == "in"]
        equal = len(units) == len(convs) and len({len(u) for u in units}) == 1
        return torch.stack(units) if equal and sorted(torch.cat(units).tolist()) == [*range(self.size)] else None


class Graph:
    """Which channels of a model go together, by one traced forward pass (cf. DepGraph, Fang et al., arXiv 2301.12900).

    Attributes:
        model (nn.Module): The traced model, in prunable form.
        example (torch.Tensor): Image of shape (1, C, H, W) that it was traced with.
        protected (list[nn.Module]): Layers whose outputs are the network's predictions.
        groups (list[Group]): Groups that can be pruned.
        sizes (list[int]): Units of each group.
        left_dense (dict[str, str]): Name of each convolution whose outputs stay whole, and why.
        halved (list[tuple[nn.Conv2d, ...]]): Convolutions that must keep equally many channels of one tensor each.
    """

    def __init__(self, model: nn.Module, needs_norms: bool = False):
        """Trace the model and find its groups.

        Args:
            model (nn.Module): Float model in evaluation mode and prunable form; it is left as it was.
            needs_norms (bool): Leave groups without a batch norm whole, for a method that ranks by batch norms.
        """
        self._needs_norms = needs_norms
        self.model, self.example = model, example_image(model)
        ends = find_ends(model)
        self.protected = ends.predictions
        self.names = {m: name for name, m in model.named_modules()}
        self.groups: list[Group] = []
        self._doubts: dict[int, str] = {}
        self.left_dense: dict[str, str] = {self.names[m]: ends.reason for m in self.protected}
        self.halved = list(equal_inputs(model))
        self._trace = trace(model, ends, self.example)
        self._find_groups()

    @property
    def sizes(self) -> list[int]:
        return [group.size for group in self.groups]

    def _find_groups(self) -> None:
        """Put together the units that each convolution makes and no earlier one has, from the last to the first."""
        labels = self._trace.labels
        axes = {**self._trace.axes, **self._bare_axes()}
        whole = labels.reasons()
        axes = {place: labels.roots(channels) for place, channels in axes.items()}
        places: dict[int, list[tuple[Place, int]]] = defaultdict(list)  # unit to its channels
        for place, roots in axes.items():
            for channel, root in enumerate(roots.tolist()):
                places[root].append((place, channel))
        readers = {(conv, "in"): convs for convs in self.halved for conv in convs}
        for doubt in reversed(self._trace.doubts):
            self._doubts.update(dict.fromkeys(labels.roots(doubt.labels).tolist(), doubt.reason))
        taken: set[int] = set()
        for layer, axis in reversed(axes):
            if axis != "out" or not isinstance(layer, MAKERS) or is_depthwise(layer):
                continue
            units = list(dict.fromkeys(axes[layer, axis].tolist()))
            if self._trace.is_beyond(layer):
                continue
            if reasons := [whole[unit] for unit in units if unit in whole]:
                self.left_dense.setdefault(self.names[layer], reasons[0])
            alike: dict[tuple, list[int]] = defaultdict(list)  # units that hold equally many channels of every layer
            for unit in units:
                if unit not in whole and unit not in taken:
                    taken.add(unit)
                    counts = Counter(readers.get(place, place) for place, _ in places[unit])
                    alike[tuple(counts.items())].append(unit)
            for units in alike.values():
                self._add(layer, units, places)

    def _bare_axes(self) -> dict[Place, torch.Tensor]:
        """Return the channels of parameters and buffers without a layer; those along two dimensions must stay."""
        axes = {}
        for module in self.names:
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                labels = self._trace.bare.get(id(tensor))
                dims = [] if labels is None else self._trace.varying(labels)
                if len(dims) == 1:
                    channels = labels.movedim(dims[0], 0).flatten(1)[:, 0] if labels.dim() > 1 else labels
                    axes[BareTensor(module, name, dims[0]), "out"] = channels
                elif labels is not None:
                    self._trace.labels.keep(labels, f"they share '{name}' of {self.names[module]}")
        return axes

    def _add(self, root: nn.Module, units: Sequence[int], places: dict) -> None:
        """Add the group of some units, or note why it must stay whole."""
        held: dict[Place, list[tuple[int, int]]] = defaultdict(list)
        for number, unit in enumerate(units):
            for place, channel in places[unit]:
                held[place].append((channel, number))
        slices, riders = [], []
        for (layer, axis), pairs in held.items():
            channels, numbers = torch.tensor(sorted(pairs)).unbind(1)
            (slices if is_weighed(layer) else riders).append(Slice(layer, axis, channels, numbers))
        doubt = next((self._doubts[unit] for unit in units if unit in self._doubts), "")
        group = Group(self.names[root], len(units), slices, riders, doubt)
        self.groups.append(group)
        if obstacle := self._obstacle(group):
            self.leave_whole(group, obstacle)

    def leave_whole(self, group: Group, reason: str) -> None:
        """Take a group out of those that can be pruned.

        Args:
            group (Group): One of the groups.
            reason (str): Why.
        """
        self.groups.remove(group)
        for s in group.convs("out"):
            self.left_dense.setdefault(self.names[s.layer], reason)

    def _obstacle(self, group: Group) -> str:
        """Return why a group must stay whole, or an empty string."""
        if self._needs_norms and not group.has_norms():
            return "it has no batch norm, by whose scale the method ranks"
        readers = {s.layer for s in group.convs("in")}
        for convs in self.halved:
            if not readers.isdisjoint(convs) and group.shared_out(convs) is None:
                return f"they are halved together with channels of other layers ({self.names[convs[0]]})"
        return ""
