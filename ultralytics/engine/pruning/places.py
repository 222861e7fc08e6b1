# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where the layers of a model in prunable form are in the stock model."""

from __future__ import annotations

from torch import nn

from ultralytics.nn.extra_modules import PRUNABLE_FORMS


def stock_places(model: nn.Module) -> dict[nn.Module, tuple[str, int]]:
    """Return where the outputs of every convolution and batch norm are in the stock model.

    Args:
        model (nn.Module): Dense model in prunable form.

    Returns:
        (dict[nn.Module, tuple[str, int]]): Layer to the name of the stock layer and the first of its outputs; the
            parts of one stock layer follow each other.
    """
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, tuple(PRUNABLE_FORMS.values()))}
    places = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            continue
        offset = 0
        for prefix, block in blocks.items():
            branch, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if name.startswith(f"{prefix}.") and branch in block.STOCK_OUTPUTS:
                stock, part = block.STOCK_OUTPUTS[branch]
                name, offset = f"{prefix}.{stock}.{rest}", part * outputs(layer)
        places[layer] = name, offset
    return places


def outputs(layer: nn.Module) -> int:
    """Return the output channels of a convolution or batch norm."""
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.num_features
