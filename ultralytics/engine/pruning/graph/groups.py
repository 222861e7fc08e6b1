# SPDX-License-Identifier: AGPL-3.0-or-later
"""Groups: which channels of which layers go together when one of them is removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from ultralytics.engine.pruning.graph.heads import find_ends
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import MAKERS, SLICED, outputs
from ultralytics.engine.pruning.graph.trace import trace
from ultralytics.nn.extra_modules.prunable import equal_inputs

MAX_STEPS = 2_000_000  # channels met on one walk, a few seconds; the longest in any of Ultralytics' models meets 38,000
Touched = dict[tuple[nn.Module, str], set[tuple[int, int]]]  # (layer, axis): (channel, root channel) pairs


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


@dataclass(frozen=True)
class Group:
    """Units of channels that can be removed independently of each other, and what each holds in every layer.

    A unit is the smallest set of channels that must go together: usually one channel of a convolution, its batch norm
    and the matching input channel of every consumer.

    Attributes:
        name (str): Name of the convolution from which the group was found.
        size (int): Number of units.
        slices (list[Slice]): The layers that the group touches.
    """

    name: str
    size: int
    slices: list[Slice]

    def convs(self, axis: str) -> Iterable[Slice]:
        """Yield the slices of convolutions and linear layers on one axis."""
        return (s for s in self.slices if s.axis == axis and isinstance(s.layer, MAKERS))

    def has_norms(self) -> bool:
        """Return True if a batch norm belongs to the units."""
        return any(isinstance(s.layer, nn.BatchNorm2d) for s in self.slices)

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
    """Dependency graph of a model, traced once by torch-pruning (DepGraph, Fang et al. 2023, arXiv 2301.12900).

    Attributes:
        model (nn.Module): The traced model, in prunable form.
        example (torch.Tensor): Image of shape (1, C, H, W) that it was traced with.
        protected (list[nn.Module]): Layers whose outputs are the network's predictions.
        groups (list[Group]): Groups that can be pruned.
        sizes (list[int]): Units of each group.
        left_dense (dict[str, str]): Name of each convolution whose outputs stay whole, and why.
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
        self.left_dense: dict[str, str] = {self.names[m]: ends.reason for m in self.protected}
        self._halved = list(equal_inputs(model))
        self._trace = trace(model, ends, self.example)
        self._find_groups()

    @property
    def sizes(self) -> list[int]:
        return [group.size for group in self.groups]

    def _find_groups(self) -> None:
        """Walk from every convolution whose outputs no earlier walk has reached."""
        reached: dict[nn.Module, set[int]] = defaultdict(set)
        for conv in list(self._trace.graph.module2node):
            if type(conv) not in MAKERS or is_depthwise(conv):
                continue
            roots = [c for c in range(outputs(conv)) if c not in reached[conv]]
            if not roots:
                continue
            touched, obstacle = self._walk(conv, roots)
            for (layer, axis), pairs in touched.items():
                if axis == "out":
                    reached[layer].update(channel for channel, _ in pairs)
            group, obstacle = (None, obstacle) if obstacle else self._build(conv, touched)
            if group and self._needs_norms and not group.has_norms():
                group, obstacle = None, "it has no batch norm, by whose scale the method ranks"
            if group is None:
                makers = (m for m, axis in touched if axis == "out" and isinstance(m, MAKERS))
                self.left_dense.update(
                    {self.names[m]: obstacle for m in makers if self.names[m] not in self.left_dense}
                )
            else:
                self.groups.append(group)

    def _walk(self, root: nn.Module, channels: list[int]) -> tuple[Touched, str]:
        """Follow torch-pruning's dependencies from output channels of one convolution.

        torch-pruning's own `get_pruning_group` keeps one root per channel, which loses that two roots may meet in one
        channel (the two halves of a GhostConv added to a plain tensor); this walk keeps them all.

        Args:
            root (nn.Module): Convolution to begin with.
            channels (list[int]): Its output channels.

        Returns:
            touched (dict): (layer, axis) to the set of (channel, root channel) pairs reached there.
            obstacle (str): Why the channels must stay whole, or an empty string.

        Raises:
            RuntimeError: If so many channels depend on each other that the walk would not end in good time.
        """
        graph = self._trace.graph
        node = graph.module2node[root]
        index = [tp._helpers._HybridIndex(idx=c, root_idx=c) for c in channels]
        prune_out = graph.get_pruner_of_module(root).prune_out_channels
        touched: Touched = defaultdict(set)
        obstacle = ""
        seen: dict[tuple[int, str], set] = defaultdict(set)
        stack = [(node, prune_out, index)]
        steps = 0
        while stack:
            node, handler, index = stack.pop()
            steps += len(index)
            if steps > MAX_STEPS:
                crowded, _ = max(touched, key=lambda place: len(touched[place]))
                raise RuntimeError(
                    f"the channels of '{self.names[root]}' are tied to each other in too many ways to follow, most of "
                    f"all in '{self.names.get(crowded)}': more than {MAX_STEPS:,} steps. Give the block around it a "
                    "prunable form (ultralytics.nn.extra_modules), or one convolution for each part that it shuffles."
                )
            # bound methods: torch-pruning asks for ==, sets and `in` do that, `is` would not
            axis = "out" if graph.is_out_channel_pruning_fn(handler) else "in"
            known = seen[id(node), axis]
            index = [i for i in index if i not in known]
            if not index:
                continue
            known.update(index)
            if reason := self._trace.obstacle(node):
                obstacle = reason
                continue
            if has_parameters(node.module):
                touched[node.module, axis].update((i.idx, i.root_idx) for i in index)
            for dep in node.dependencies:
                if dep.is_triggered_by(handler):
                    onward = index
                    for mapping in dep.index_mapping:
                        onward = onward if mapping is None else mapping(onward)
                    if onward:
                        stack.append((dep.target, dep.handler, onward))
        return touched, obstacle

    def _build(self, root: nn.Module, touched: Touched) -> tuple[Group | None, str]:
        """Return the group of a walk, or None and the reason why its layers must stay whole."""
        for layer, axis in touched:
            if layer in self.protected and axis == "out":
                return None, "its outputs are added to the predictions"
            if type(layer) not in SLICED:
                return None, f"its channels reach a {type(layer).__name__} layer, which cannot be sliced"
            if getattr(layer, "groups", 1) > 1 and not is_depthwise(layer):
                return None, f"its channels reach a grouped convolution ({self.names[layer]})"

        units = _units(pairs for pairs in touched.values())
        slices = []
        for (layer, axis), pairs in touched.items():
            channels = sorted({channel for channel, _ in pairs})
            unit_of = {channel: units[root_channel] for channel, root_channel in pairs}
            slices.append(Slice(layer, axis, torch.tensor(channels), torch.tensor([unit_of[c] for c in channels])))
        group = Group(self.names[root], max(units.values()) + 1, slices)
        partial: set[nn.Module] = set()  # layers that read a part of the units
        for convs in self._halved:
            if any((conv, "in") in touched for conv in convs):
                if group.shared_out(convs) is None:
                    return None, f"they are halved together with channels of other layers ({self.names[convs[0]]})"
                partial.update(convs)
        for s in group.slices:
            if s.axis == "in" and s.layer in partial:
                continue
            if len(set(torch.bincount(s.units, minlength=group.size).tolist())) > 1:
                return None, f"its channels are unevenly repeated in {self.names[s.layer]}"
        return group, ""


def _units(pair_sets: Iterable[set[tuple[int, int]]]) -> dict[int, int]:
    """Number the classes of root channels that meet in some channel of some layer.

    Args:
        pair_sets (Iterable[set[tuple[int, int]]]): For each layer and axis, (channel, root channel) pairs.

    Returns:
        (dict[int, int]): Root channel to its unit, numbered from 0 in the order of the root channels.
    """
    parent: dict[int, int] = {}

    def find(root: int) -> int:
        parent.setdefault(root, root)
        while parent[root] != root:
            parent[root] = parent[parent[root]]
            root = parent[root]
        return root

    for pairs in pair_sets:
        first: dict[int, int] = {}
        for channel, root in pairs:
            a, b = find(first.setdefault(channel, root)), find(root)
            parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return {root: numbers.setdefault(find(root), len(numbers)) for root in sorted(parent)}


def is_depthwise(layer: nn.Module) -> bool:
    """Return True for a convolution in which every output channel reads one input channel of its own."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def has_parameters(module: object) -> bool:
    """Return True for a layer with parameters or a parameter, False for torch-pruning's stand-ins for operations."""
    if isinstance(module, nn.Parameter):
        return True
    return isinstance(module, nn.Module) and next(module.parameters(), None) is not None
