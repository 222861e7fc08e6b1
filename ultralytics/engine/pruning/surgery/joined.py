# SPDX-License-Identifier: AGPL-3.0-or-later
"""Groups that can be cut only together: code between them counts on one having as many channels as another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ultralytics.engine.pruning.graph.groups import Group, Slice

PLACES: tuple[Callable[[torch.Tensor, int, int], torch.Tensor], ...] = (
    lambda units, size, _times: units % size,  # a row of heads, each of as many channels as there are joint units
    lambda units, _size, times: units // times,  # a row of channels, one of each head
)
"""Ways in which the channels of a wider group lie: (units, joint units, how many for each) to the joint units."""
FEW = 6  # groups, of which one that fails by itself may be left out


def neighbours(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the sets of groups that have a layer in common, one with the next; those that stand alone are left out."""
    sets: list[list[Group]] = []
    for group in groups:
        near = [s for s in sets if any(_layers(group) & _layers(other) for other in s)]
        sets = [s for s in sets if s not in near] + [[*(g for s in near for g in s), group]]
    return [s for s in sets if len(s) > 1]


def choices(near: Sequence[Group]) -> Iterator[Sequence[Group]]:
    """Yield the sets of groups to be tried as one: all that are near, then all but one of them, if they are few."""
    yield near
    if 2 < len(near) <= FEW:
        for other in near:
            yield [group for group in near if group is not other]


def joined(groups: Sequence[Group]) -> Iterator[Group]:
    """Yield what some groups may be as one, in which every unit takes equally many from each.

    The smallest group's units count; a group whose size is no multiple of it joins in nothing.

    Args:
        groups (Sequence[Group]): Groups.
    """
    size = min(group.size for group in groups)
    if any(group.size % size for group in groups):
        return
    ways = PLACES if any(group.size > size for group in groups) else PLACES[:1]
    for place in ways:
        parts = [(group, place(torch.arange(group.size), size, group.size // size)) for group in groups]
        yield Group(
            groups[0].name,
            size,
            [_moved(s, units) for group, units in parts for s in group.slices],
            [_moved(s, units) for group, units in parts for s in group.riders],
            next((group.doubt for group in groups if group.doubt), ""),
        )


def _moved(part: Slice, units: torch.Tensor) -> Slice:
    """Return a slice with its units numbered anew."""
    return replace(part, units=units[part.units])


def _layers(group: Group) -> set:
    """Return the layers that a group has channels of."""
    return {s.layer for s in (*group.slices, *group.riders)}
