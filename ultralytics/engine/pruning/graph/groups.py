# SPDX-License-Identifier: AGPL-3.0-or-later
"""Groups: which channels of which layers go together when one of them is removed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.ends import find_ends
from ultralytics.engine.pruning.graph.heads import PREDICTIONS
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, BareTensor, Queries, is_depthwise, is_weighed, outputs
from ultralytics.engine.pruning.graph.trace import trace
from ultralytics.nn.extra_modules.prunable import equal_inputs, equal_parts, same_width

Place = tuple[nn.Module, str]  # layer and axis


@dataclass(frozen=True)
class Slice:
    """Channels of one layer that a group holds.

    Attributes:
        layer (nn.Module): A convolution or batch norm; of a rider, whatever has channels.
        axis (str): 'out' for output channels, 'in' for input channels. The one channel axis of a batch norm or a
            depthwise convolution is 'out'.
        channels (torch.Tensor): Indices of the layer's channels, shape (N,).
        units (torch.Tensor): The unit of the group that each of these channels belongs to, shape (N,).
    """

    layer: nn.Module
    axis: str
    channels: torch.Tensor
    units: torch.Tensor

    def is_single(self) -> bool:
        """Return True if it holds one channel of each unit."""
        return len(self.units.unique()) == len(self.units)


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

    @property
    def width(self) -> int:
        """Return how many channels a unit has in every layer that makes them, or a divisor of these numbers."""
        return math.gcd(*(len(s.channels) // self.size for s in self.convs("out")))

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
        precision (torch.dtype): In which trial cuts are compared.
    """

    def __init__(self, model: nn.Module, needs_norms: bool = False):
        """Trace the model and find its groups.

        Args:
            model (nn.Module): Float model in evaluation mode and prunable form; it is left as it was.
            needs_norms (bool): Leave groups without a batch norm whole, for a method that ranks by batch norms.
        """
        self._needs_norms = needs_norms
        self.precision = torch.float64
        self.model, self.example = model, example_image(model)
        ends = find_ends(model, self.example)
        self.protected = ends.predictions
        self.names = {m: name for name, m in model.named_modules()}
        self.groups: list[Group] = []
        kept = {**dict.fromkeys(ends.predictions, PREDICTIONS), **ends.fixed}
        self.left_dense: dict[str, str] = {self.names[m]: reason for m, reason in kept.items()}
        self.halved = list(equal_inputs(model))
        self._coupled = {conv: 1 for convs in same_width(model) for conv in convs} | dict(equal_parts(model))
        self._trace = trace(model, ends, self.example)
        self._find_groups()

    @property
    def sizes(self) -> list[int]:
        return [group.size for group in self.groups]

    def _find_groups(self) -> None:
        """Put together the units that each convolution makes and no earlier one has, from the last to the first."""
        labels = self._trace.labels
        axes = {**self._trace.axes, **self._bare_axes()}
        channels = _Channels({place: labels.roots(roots) for place, roots in axes.items()}, self.halved)
        whole = labels.reasons()
        doubts: dict[int, str] = {}
        for found in reversed(self._trace.doubts):
            doubts.update(dict.fromkeys(labels.roots(found.labels).tolist(), found.reason))
        roots: list[str] = []  # names of the groups
        members: list[list[int]] = []  # units of each
        taken: set[int] = set()
        for layer, axis in reversed(axes):
            if axis != "out" or not isinstance(layer, MAKERS) or is_depthwise(layer) or self._trace.is_beyond(layer):
                continue
            units = channels.units(layer)
            if reasons := [whole[unit] for unit in units if unit in whole]:
                self.left_dense.setdefault(self.names[layer], reasons[0])
            alike: dict[int, list[int]] = defaultdict(list)
            for unit in units:
                if unit not in whole and unit not in taken:
                    alike[channels.signatures[unit]].append(unit)
            taken.update(units)
            roots += [self.names[layer]] * len(alike)
            members += alike.values()
        for name, units, slices in zip(roots, members, channels.slices(members)):
            doubt = next((doubts[unit] for unit in units if unit in doubts), "")
            weighed = [s for s in slices if is_weighed(s.layer)]
            group = Group(name, len(units), weighed, [s for s in slices if not is_weighed(s.layer)], doubt)
            self.groups.append(group)
            if obstacle := self._obstacle(group):
                self.leave_whole(group, obstacle)

    def _bare_axes(self) -> dict[Place, torch.Tensor]:
        """Return the channels of parameters and buffers without a layer; those along two dimensions must stay."""
        axes: dict[Place, torch.Tensor] = {}
        for module in self.names:
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                labels = self._trace.bare.get(id(tensor))
                if labels is None:
                    continue
                if labels.dim() == 1 and (module, "out") in self._trace.axes:
                    for values in (labels, self._trace.axes[module, "out"]):
                        self._trace.labels.keep(values, f"'{name}' of {self.names[module]} is used beside its call")
                    continue
                dims = self._trace.varying(labels)
                if len(dims) == 1:
                    channels = labels.movedim(dims[0], 0).flatten(1)[:, 0] if labels.dim() > 1 else labels
                    axes[BareTensor(module, name, dims[0]), "out"] = channels
                else:
                    self._trace.labels.keep(labels, f"they share '{name}' of {self.names[module]}")
        return axes

    @property
    def has_doubts(self) -> bool:
        """Return True if code on the way of some channels may count on their number."""
        return bool(self._trace.doubts)

    def queries(self, group: Group) -> list[Slice]:
        """Return the channels of a group in the first factor of each product that sums over channels.

        Args:
            group (Group): Group.

        Returns:
            (list[Slice]): For each product, the channels in the last layer of the group that puts them out.
        """
        found = []
        layers = {s.layer for s in group.slices if s.axis == "out"}
        makers = [(m, out) for (m, axis), out in self._trace.axes.items() if axis == "out" and m in layers]
        for labels in self._trace.products:
            last = next((m for m, out in reversed(makers) if torch.isin(out, labels).any()), None)
            if last is None:
                continue
            inside = torch.isin(self._trace.axes[last, "out"], labels)
            held = [s for s in group.slices if s.layer is last and s.axis == "out"]
            rows = torch.cat([s.channels[inside[s.channels]] for s in held])
            units = torch.cat([s.units[inside[s.channels]] for s in held])
            if len(rows):
                queries = Queries(last, tuple(rows.tolist()))
                found.append(Slice(queries, "out", torch.arange(len(rows)), units))
        return found

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
        for s in group.convs("out"):
            if s.layer in self._coupled and len(s.channels) < outputs(s.layer):
                return f"they are some of those of {self.names[s.layer]}, which must all be treated alike"
            if (parts := self._coupled.get(s.layer)) and not s.is_single():
                rows = s.units[s.channels.argsort()].view(parts, -1).sort(1).values
                if not torch.equal(rows, rows[:1].expand_as(rows)):
                    return f"they are unlike in the {parts} parts of {self.names[s.layer]}"
        if self._needs_norms and not group.has_norms():
            return "it has no batch norm, by whose scale the method ranks"
        readers = {s.layer for s in group.convs("in")}
        for convs in self.halved:
            if not readers.isdisjoint(convs) and group.shared_out(convs) is None:
                return f"they are halved together with channels of other layers ({self.names[convs[0]]})"
        return ""


class _Channels:
    """The channels of all layers, by the unit that each belongs to.

    Attributes:
        signatures (dict[int, int]): Unit to a number that two units share if they hold equally many channels of every
            layer: the sum of a random number for each channel's layer and axis, of 63 bits.
    """

    def __init__(self, axes: dict[Place, torch.Tensor], halved: Sequence[tuple[nn.Module, ...]]):
        """Number them through.

        Args:
            axes (dict[Place, torch.Tensor]): Layer and axis to the unit of each channel, 0 for none.
            halved (Sequence[tuple[nn.Module, ...]]): Layers of which each reads one part of the units.
        """
        self._axes, self._places = axes, list(axes)
        sizes = torch.tensor([len(units) for units in axes.values()])
        self._place = torch.arange(len(sizes)).repeat_interleave(sizes)
        self._channel = torch.cat([torch.arange(n) for n in sizes.tolist()])
        self._unit = torch.cat([*axes.values()])
        readers = {(conv, "in"): (convs[0], "in") for convs in halved for conv in convs}
        like = torch.tensor([self._places.index(readers.get(place, place)) for place in self._places])
        drawn = torch.randint(2**62, (len(sizes),), generator=torch.Generator().manual_seed(0))[like]
        units, index = self._unit.unique(return_inverse=True)
        sums = torch.zeros(len(units), dtype=torch.int64).index_add_(0, index, drawn[self._place])
        self.signatures = dict(zip(units.tolist(), sums.tolist()))

    def units(self, layer: nn.Module) -> list[int]:
        """Return the units of a layer's outputs, in the order of their first channels."""
        return list(dict.fromkeys(self._axes[layer, "out"].tolist()))

    def slices(self, groups: Sequence[Sequence[int]]) -> list[list[Slice]]:
        """Return what groups hold in every layer.

        Args:
            groups (Sequence[Sequence[int]]): Units of each group, in their order there.
        """
        count = int(self._unit.max()) + 1
        group, number = torch.full((count,), -1), torch.zeros(count, dtype=torch.int64)
        for i, units in enumerate(groups):
            group[units], number[units] = i, torch.arange(len(units))
        held = (group[self._unit] >= 0).nonzero().flatten()
        key = group[self._unit[held]] * len(self._places) + self._place[held]
        order = key.argsort(stable=True)
        keys, sizes = key[order].unique_consecutive(return_counts=True)
        slices: list[list[Slice]] = [[] for _ in groups]
        for k, part in zip(keys.tolist(), held[order].split(sizes.tolist())):
            layer, axis = self._places[k % len(self._places)]
            slices[k // len(self._places)].append(Slice(layer, axis, self._channel[part], number[self._unit[part]]))
        return slices
