# SPDX-License-Identifier: AGPL-3.0-or-later
"""Layers that keep all their outputs, put together by place and reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple


class KeptWhole(NamedTuple):
    """Layers of one block that stay whole for one reason.

    Attributes:
        place (str): What their names have in common, i.e. 'model.4.block'.
        reason (str): Why their outputs stay.
        layers (list[str]): Their names.
        share (float): Share of the dense cost that is left in them with all other layers at their smallest.
    """

    place: str
    reason: str
    layers: list[str]
    share: float


def kept_whole(reasons: Mapping[str, str], shares: Mapping[str, float]) -> list[KeptWhole]:
    """Put layers together that stay whole.

    Args:
        reasons (Mapping[str, str]): Layer to the reason.
        shares (Mapping[str, float]): Layer to its share of the dense cost; what has no reason lies outside all layers.

    Returns:
        (list[KeptWhole]): One entry for every reason in every top-level block, the largest share first.
    """
    layers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        layers[".".join(name.split(".")[:2]), reason].append(name)
    entries = [
        KeptWhole(_common(names), reason, names, sum(shares.get(name, 0.0) for name in names))
        for (_, reason), names in layers.items()
    ]
    outside = [KeptWhole("other operations", name, [], share) for name, share in shares.items() if name not in reasons]
    return sorted(entries + outside, key=lambda entry: -entry.share)


def stays(entries: list[KeptWhole], unit: str) -> str:
    """Return in words what stays whole.

    Args:
        entries (list[KeptWhole]): The entries, the largest share first.
        unit (str): What the cost is counted in.
    """
    total = sum(entry.share for entry in entries)
    first = entries[0]
    return f"{total:.0%} of the {unit} stay whole, {first.share:.0%} in {first.place}: {first.reason}"


def _common(names: list[str]) -> str:
    """Return the longest path that all names begin with."""
    paths = [name.split(".") for name in names]
    length = next((i for i, parts in enumerate(zip(*paths)) if len(set(parts)) > 1), min(map(len, paths)))
    return ".".join(paths[0][:length])
