# SPDX-License-Identifier: AGPL-3.0-or-later
"""What every layer costs before and after pruning."""

from __future__ import annotations

from typing import Any

from torch import nn

from ultralytics.engine.pruning.budget.layer_flops import layer_flops
from ultralytics.engine.pruning.checkpoint.record import dense_yaml
from ultralytics.engine.pruning.graph.places import MAKERS, outputs


def compare_layers(dense: nn.Module, pruned: nn.Module) -> list[dict[str, Any]]:
    """Put the convolutions and linear layers of a dense and a pruned model side by side, in the order of the network.

    Args:
        dense (nn.Module): Dense stock model, not fused.
        pruned (nn.Module): The same, pruned.

    Returns:
        (list[dict[str, Any]]): One row per layer: 'name', 'block' (top-level block, i.e. '4 C2f'), 'part' ('backbone',
            'neck' or 'head'), and as pairs of dense and pruned 'channels' (outputs), 'gflops' (at 640 pixels, without
            its batch norm) and 'parameters' (without its batch norm).
    """
    flops = layer_flops(dense), layer_flops(pruned)
    layers = dict(dense.named_modules()), dict(pruned.named_modules())
    backbone = len(dense_yaml(dense)["backbone"])
    rows = []
    for name in (name for name in flops[0] if isinstance(layers[0][name], MAKERS)):
        pair = [model[name] for model in layers]
        index = int(name.split(".")[1])
        head = index == len(dense.model) - 1
        rows.append(
            {
                "name": name,
                "block": f"{index} {type(dense.model[index]).__name__}",
                "part": "head" if head else "backbone" if index < backbone else "neck",
                "channels": [outputs(layer) for layer in pair],
                "gflops": [counted[name] / 1e9 for counted in flops],
                "parameters": [sum(p.numel() for p in layer.parameters()) for layer in pair],
            }
        )
    return sorted(rows, key=lambda row: int(row["block"].split()[0]))
