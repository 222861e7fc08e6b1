# SPDX-License-Identifier: AGPL-3.0-or-later
"""Map the layers of the prunable form to stock layers and channel indices."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.nn.extra_modules.prunable import PrunableForm

MAKERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # layers that make channels out of others
SLICED = (*MAKERS, nn.BatchNorm2d)  # layers whose channels can be removed
OUT_DIM = {nn.ConvTranspose2d: 1}  # dimension of the weight that counts outputs, where it is not 0


def stock_places(model: nn.Module) -> dict[nn.Module, tuple[str, torch.Tensor]]:
    """Return where the outputs of every layer with channels are in the stock model.

    Args:
        model (nn.Module): Dense model in prunable form.

    Returns:
        (dict[nn.Module, tuple[str, torch.Tensor]]): Layer to the name of the stock layer and the indices of its
            outputs that the layer makes.
    """
    branches = {}
    for prefix, form in model.named_modules():
        if isinstance(form, PrunableForm):
            for part, (stock, index) in form.stock_outputs().items():
                branches[f"{prefix}.{part}"] = f"{prefix}.{stock}", index
    places = {}
    for name, layer in model.named_modules():
        if type(layer) in SLICED:
            branch = next((b for b in branches if name == b or name.startswith(f"{b}.")), None)
            if branch is None:
                places[layer] = name, torch.arange(outputs(layer))
            else:
                stock, index = branches[branch]
                places[layer] = stock + name.removeprefix(branch), index
    return places


def weight_dim(layer: nn.Module, axis: str) -> int:
    """Return the dimension of a layer's weight that counts its channels on the axis 'out' or 'in'."""
    out = OUT_DIM.get(type(layer), 0)
    return out if axis == "out" else 1 - out


def outputs(layer: nn.Module) -> int:
    """Return the output channels of a layer."""
    if isinstance(layer, nn.BatchNorm2d):
        return layer.num_features
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def inputs(layer: nn.Module) -> int:
    """Return the input channels of a convolution or linear layer."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
