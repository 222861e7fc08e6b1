# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which channels of the dense network are left after one or more cuts, by the names of the stock model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.graph.places import inputs, outputs, stock_places
from ultralytics.engine.pruning.surgery.cut import Kept


class History:
    """Follows the channels of every convolution and linear layer through the cuts."""

    def __init__(self, model: nn.Module):
        """Begin with all channels.

        Args:
            model (nn.Module): Dense model in prunable form.
        """
        self._places = {m: p for m, p in stock_places(model).items() if not isinstance(m, _BatchNorm)}
        self._left = {
            layer: {"out": torch.arange(outputs(layer)), "in": torch.arange(inputs(layer))} for layer in self._places
        }
        self._dense_outputs = {layer: outputs(layer) for layer in self._places}

    def note(self, kept: Kept) -> None:
        """Take down a cut that is about to be made."""
        for layer, axes in self._left.items():
            self._left[layer] = {axis: index[kept[layer][axis]] for axis, index in axes.items()}

    def dense_size(self, group: Group) -> float:
        """Return how many units a group had before the first cut."""
        layer = next(s.layer for s in group.slices if s.axis == "out" and s.layer in self._places)
        return group.size * self._dense_outputs[layer] / outputs(layer)

    def channels(self) -> dict[str, dict[str, list[int]]]:
        """Return the channels left, as indices into the dense stock model.

        Returns:
            (dict[str, dict[str, list[int]]]): Layer to indices kept on its 'out' and 'in' axes, ascending.
        """
        channels: dict[str, dict[str, list[int]]] = {}
        for layer, (name, index) in self._places.items():
            left = self._left[layer]
            entry = channels.setdefault(name, {"out": [], "in": left["in"].tolist()})
            entry["out"] = sorted(entry["out"] + index[left["out"]].tolist())
        return channels
