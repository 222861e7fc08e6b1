# SPDX-License-Identifier: AGPL-3.0-or-later
"""A trial cut for groups in doubt: their channels pass code that may count on how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Union

import torch
from torch import nn

from ultralytics.engine.pruning.graph.groups import Graph, Group
from ultralytics.engine.pruning.graph.mode import FAILURES
from ultralytics.engine.pruning.graph.outputs import runs
from ultralytics.engine.pruning.graph.places import BareTensor, Number, Queries, is_sliced, outputs
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut, queries_factor
from ultralytics.engine.pruning.surgery.joined import choices, joined, neighbours
from ultralytics.engine.pruning.surgery.oracle import mask, raw_outputs
from ultralytics.engine.pruning.surgery.proof import (
    check_repeatable,
    large_image,
    layer_outputs,
    random_image,
    relative_difference,
    watched,
)
from ultralytics.nn.extra_modules.prunable import equal_parts

PRECISIONS = {torch.float64: 1e-6, torch.float32: 1e-4}  # with the tolerance, of a layer's largest output
SHARES = (0.0, 0.5, 1.0)  # of its units that a joined group loses in its trials: a few, half, all but one
Layer = Union[nn.Module, BareTensor, Number, Queries]  # a value, which Python 3.9 cannot write with |


def sound_graph(model: nn.Module, needs_norms: bool = False) -> Graph:
    """Return the graph of a model; if anything is in doubt, groups that do not stand a trial cut are left whole.

    A model of stock blocks has nothing in doubt.

    Args:
        model (nn.Module): Float model in evaluation mode and prunable form; it is left as it was.
        needs_norms (bool): Leave groups without a batch norm whole, for a method that ranks by batch norms.

    Returns:
        (Graph): The graph.

    Raises:
        ValueError: If there are doubts and the model is random in evaluation.
    """
    graph = Graph(model, needs_norms)
    groups = list(graph.groups)
    if graph.has_doubts:
        check_repeatable(graph.model)
        image = random_image(graph.example.shape).double()
        graph.precision = torch.float64 if runs(deepcopy(graph.model).cpu().double(), image) else torch.float32
        certain = [group for group in groups if not group.doubt]
        # One unit of one group at a time, as losses of several may make up for each other. Equal counts and divisors
        # are linear conditions: where each single loss meets them, every other choice does.
        alone = {g: sound for g in groups if g.doubt for sound in _sound(graph, [], [g]).values()}
        if is_right(graph, [*certain, *alone.values()]):
            sound = {**{group: group for group in certain}, **alone}
        else:
            sound = _sound(graph, [], certain)  # mostly all
            together = _sound(graph, [*sound.values()], [*alone.values()])
            sound.update((group, together[one]) for group, one in alone.items() if one in together)
        _join(graph, sound)
    return graph


def _join(graph: Graph, sound: dict[Group, Group]) -> None:
    """Give a graph the groups that can be cut, some of the others as one where they can be cut only together.

    Args:
        graph (Graph): Graph.
        sound (dict[Group, Group]): Groups of it, each with what can be cut.
    """
    rest = [group for group in graph.groups if group not in sound]
    found: list[Group] = []
    tied: set[Group] = set()
    for near in neighbours(rest):
        for groups in choices(near):
            if one := _tied(graph, [*sound.values(), *found], groups):
                found.append(one)
                tied.update(groups)
                break
    for group in rest:
        if group not in tied:
            graph.leave_whole(group, f"{group.doubt or 'a block behind it'}, which counts on their number")
    graph.groups = _without_chance(graph, [sound[group] for group in graph.groups if group in sound] + found)


def _without_chance(graph: Graph, groups: list[Group]) -> list[Group]:
    """Return groups less the numbers that are no channels' but equal to theirs by chance, as a large image shows.

    A number that no image tells from one of channels goes with them: methods that only an export calls may need it.

    Args:
        graph (Graph): Graph.
        groups (list[Group]): Groups of it that stand a cut.
    """
    numbered = [group for group in groups if any(isinstance(s.layer, Number) for s in group.riders)]
    image = large_image(graph.model) if numbered else None
    if image is None or is_right(graph, groups, image=image):
        return groups
    better = {}
    for group in numbered:
        if not is_right(graph, [group], image=image):
            fewer = (other for other in _fewer(group) if is_right(graph, [other]))
            better[group] = next((other for other in fewer if is_right(graph, [other], image=image)), group)
    return [better.get(group, group) for group in groups]


def _fewer(group: Group) -> Iterator[Group]:
    """Yield a group without each of its numbers, and without all."""
    numbers = [s for s in group.riders if isinstance(s.layer, Number)]
    for gone in [*([one] for one in numbers), numbers]:
        yield replace(group, riders=[s for s in group.riders if not any(s is one for one in gone)])


def _tied(graph: Graph, base: Sequence[Group], groups: Sequence[Group]) -> Group | None:
    """Return some groups as one that can be cut together with others, however much it loses; None if there is none.

    What its code computes of a width need not be linear in it, so that small losses say nothing of large ones.
    """
    for one in joined(groups):
        for way in (one, *_others(graph, one)):
            if all(is_right(graph, [*base, way], share) for share in SHARES):
                return way
    return None


def _sound(graph: Graph, base: Sequence[Group], groups: Sequence[Group]) -> dict[Group, Group]:
    """Return those of some groups that can be cut together with others, by bisection.

    Args:
        graph (Graph): Graph.
        base (Sequence[Group]): The others.
        groups (Sequence[Group]): Groups.

    Returns:
        (dict[Group, Group]): Groups, each with what is right of it.
    """
    if not groups or is_right(graph, [*base, *groups]):
        return {group: group for group in groups}
    if len(groups) == 1:
        found = next((other for other in _others(graph, groups[0]) if is_right(graph, [*base, other])), None)
        return {groups[0]: found} if found else {}
    first = _sound(graph, base, groups[: len(groups) // 2])
    return {**first, **_sound(graph, [*base, *first.values()], groups[len(groups) // 2 :])}


def _others(graph: Graph, group: Group) -> Iterator[Group]:
    """Yield what a group may be that cannot be cut as it is.

    That is without numbers that were equal to one of channels by chance, with queries that make up for code which
    divides by the root of their number, of all products or of one, or both.
    """
    plain = [s for s in group.riders if not isinstance(s.layer, Number)]
    queries = graph.queries(group)
    added = [[], *([queries] if queries else []), *([one] for one in queries if len(queries) > 1)]
    for more in added:
        if more:
            yield replace(group, riders=[*group.riders, *more])
        if len(plain) < len(group.riders):
            yield replace(group, riders=[*plain, *more])


def is_right(graph: Graph, groups: Sequence[Group], share: float = 0.0, image: torch.Tensor | None = None) -> bool:
    """Cut some units of each of some groups from a copy, and return True if it does what the masked model does.

    The outputs of all layers are compared, in FP64 if the model's code can: an error in one may all but vanish on the
    way to the predictions.

    Args:
        graph (Graph): Graph.
        groups (Sequence[Group]): Groups of it.
        share (float): Share of its units that the last group loses, instead of a few.
        image (torch.Tensor, optional): Image of shape (1, C, H, W), in the precision of the comparison; else it is the
            one of the trace, in the graph's.
    """
    if image is None:
        image = random_image(graph.example.shape).to(graph.precision)
    shares = [*[0.0] * (len(groups) - 1), share]
    units = [_some_units(graph, group, i, part) for i, (group, part) in enumerate(zip(groups, shares))]
    kept = channels_to_keep(graph.model, groups, units)
    channels = {
        graph.names[layer]: {axis: index.tolist() for axis, index in axes.items()}
        for layer, axes in kept.items()
        if isinstance(layer, nn.Module) and is_sliced(layer) and "in" in axes
    }
    copies: dict[int, nn.Module] = {}
    pruned = deepcopy(graph.model, copies).cpu().to(image.dtype)
    try:
        cut(pruned, {_copied(layer, copies): axes for layer, axes in kept.items()})
        actual = watched(pruned, channels)
        raw_outputs(pruned, image)
    except FAILURES:
        return False  # what it is asked for
    expected = layer_outputs(mask(deepcopy(graph.model).cpu().to(image.dtype), channels), image, channels)
    for layer, axes in kept.items():
        if isinstance(layer, Queries) and (name := graph.names[layer.owner]) in expected:
            factor = torch.ones(outputs(layer.owner), dtype=image.dtype)
            factor[list(layer.channels)] *= queries_factor(len(axes["out"]), len(layer.channels))
            expected[name] = [y * _along(factor, layer.owner, y) for y in expected[name]]
    return all(
        _agree(graph, name, channels[name]["out"], actual.get(name, []), calls) for name, calls in expected.items()
    )


def _along(values: torch.Tensor, layer: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """Return a value for each channel of a layer in a shape that multiplies its output."""
    return values.view(-1, *[1] * (0 if isinstance(layer, nn.Linear) else output.dim() - 2))


def _agree(graph: Graph, name: str, kept: list[int], actual: list, expected: list) -> bool:
    """Return True if a layer's outputs in all of its calls are those of the kept channels.

    What differs in another dimension has channels along that as well, and what reads it tells.
    """
    dim = -1 if isinstance(graph.model.get_submodule(name), nn.Linear) else 1
    wanted = [y.index_select(dim, torch.tensor(kept)) for y in expected]
    return len(actual) == len(wanted) and all(
        y.shape[dim] == len(kept) and (y.shape != value.shape or relative_difference(y, value) <= PRECISIONS[y.dtype])
        for y, value in zip(actual, wanted)
    )


def _some_units(graph: Graph, group: Group, index: int, share: float = 0.0) -> torch.Tensor:
    """Return some units of a group, in each of the parts that must stay equally large.

    How many go depends on the group's index, or on a share of them: code that counts on two tensors to be equally wide
    would pass otherwise.
    """
    parts = torch.arange(group.size)[None]
    for conv, count in equal_parts(graph.model):
        for s in group.convs("out"):
            if s.layer is conv:
                parts = s.units[s.channels.argsort()].view(count, -1)
    for convs in graph.halved:
        if (shared := group.shared_out(convs)) is not None:
            parts = shared
    width = parts.shape[1]
    order = [*range(1, width, 2), *range(0, width, 2)]  # neighbours do not go together
    count = min(round(share * width), width - 1) or 1 + index % max(width // 2, 1)
    gone = order[:count] if width > 1 else []
    return parts[:, [i for i in range(width) if i not in gone]].flatten()


def _copied(layer: Layer, copies: dict[int, nn.Module]) -> Layer:
    """Return what became of a layer in the copy."""
    return copies[id(layer)] if isinstance(layer, nn.Module) else replace(layer, owner=copies[id(layer.owner)])
