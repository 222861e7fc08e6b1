# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which channels of the dense network are left after one or more cuts, by the names of the stock model."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.engine.pruning.cut import Kept
from ultralytics.engine.pruning.groups import Group
from ultralytics.nn.extra_modules import PRUNABLE_FORMS


class History:
    """Follows the channels of every convolution through the cuts."""

    def __init__(self, model: nn.Module):
        """Begin with all channels.

        Args:
            model (nn.Module): Dense model in prunable form.
        """
        self._places = stock_places(model)
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


def stock_places(model: nn.Module) -> dict[nn.Conv2d, tuple[str, int]]:
    """Return where the outputs of every convolution are in the stock model.

    Args:
        model (nn.Module): Dense model in prunable form.

    Returns:
        (dict[nn.Conv2d, tuple[str, int]]): Convolution to the name of the stock convolution and the first of its
            outputs; the parts of one stock convolution follow each other.
    """
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, tuple(PRUNABLE_FORMS.values()))}
    places = {}
    for name, conv in model.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        offset = 0
        for prefix, block in blocks.items():
            branch, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if name.startswith(f"{prefix}.") and branch in block.STOCK_OUTPUTS:
                layer, part = block.STOCK_OUTPUTS[branch]
                name, offset = f"{prefix}.{layer}.{rest}", part * conv.out_channels
        places[conv] = name, offset
    return places
