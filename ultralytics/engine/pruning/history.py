# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which channels of the dense network are left after one or more cuts, by the names of the stock model."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.engine.pruning.cut import Kept
from ultralytics.engine.pruning.groups import Group
from ultralytics.engine.pruning.places import stock_places


class History:
    """Follows the channels of every convolution through the cuts."""

    def __init__(self, model: nn.Module):
        """Begin with all channels.

        Args:
            model (nn.Module): Dense model in prunable form.
        """
        self._places = {m: place for m, place in stock_places(model).items() if isinstance(m, nn.Conv2d)}
        self._left = {
            conv: {"out": torch.arange(conv.out_channels), "in": torch.arange(conv.in_channels)}
            for conv in self._places
        }
        self._dense_outputs = {conv: conv.out_channels for conv in self._places}

    def note(self, kept: Kept) -> None:
        """Take down a cut that is about to be made."""
        for conv, axes in self._left.items():
            self._left[conv] = {axis: index[kept[conv][axis]] for axis, index in axes.items()}

    def dense_size(self, group: Group) -> float:
        """Return how many units a group had before the first cut."""
        conv = next(s.layer for s in group.convs("out"))
        return group.size * self._dense_outputs[conv] / conv.out_channels

    def channels(self) -> dict[str, dict[str, list[int]]]:
        """Return the channels left, as indices into the dense stock model.

        Returns:
            (dict[str, dict[str, list[int]]]): Convolution to indices kept on its 'out' and 'in' axes, ascending.
        """
        channels: dict[str, dict[str, list[int]]] = {}
        for conv, (name, offset) in self._places.items():
            left = self._left[conv]
            entry = channels.setdefault(name, {"out": [], "in": left["in"].tolist()})
            entry["out"] += (left["out"] + offset).tolist()
        return channels
