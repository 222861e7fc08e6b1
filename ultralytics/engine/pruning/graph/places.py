# SPDX-License-Identifier: AGPL-3.0-or-later
"""The layers whose channels count: how many they have, where in their weights, and where in the stock model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torchvision.ops import DeformConv2d

from ultralytics.nn.extra_modules.prunable import PrunableForm

MAKERS = (  # layers that make channels out of others
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
    DeformConv2d,
)
SLICED = (*MAKERS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)  # layers that can lose channels


def is_sliced(module: nn.Module) -> bool:
    """Return True for a layer whose channels count: a convolution, a linear layer or a batch norm."""
    return isinstance(module, SLICED) and not isinstance(module, NonDynamicallyQuantizableLinear)  # of an attention


def is_weighed(layer: nn.Module) -> bool:
    """Return True for a layer by whose weight its channels can be ranked."""
    return isinstance(layer, nn.Module) and is_sliced(layer) and layer.weight is not None


def is_depthwise(layer: nn.Module) -> bool:
    """Return True for a convolution in which every output channel reads one input channel of its own."""
    return isinstance(layer, MAKERS) and getattr(layer, "groups", 1) == inputs(layer) == outputs(layer) > 1


def loses_groups(layer: nn.Module) -> bool:
    """Return True for a convolution in groups that loses whole groups, not channels of every group.

    It is what leaves the finer choice; a depthwise convolution is the extreme.
    """
    return getattr(layer, "groups", 1) > inputs(layer) // getattr(layer, "groups", 1)


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
        if is_sliced(layer):
            branch = next((b for b in branches if name == b or name.startswith(f"{b}.")), None)
            if branch is None:
                places[layer] = name, torch.arange(outputs(layer))
            else:
                stock, index = branches[branch]
                places[layer] = stock + name.removeprefix(branch), index
    return places


def weight_dim(layer: nn.Module, axis: str) -> int:
    """Return the dimension of a layer's weight that counts its channels on the axis 'out' or 'in'."""
    out = int(isinstance(layer, _ConvTransposeNd))
    return out if axis == "out" else 1 - out


def per_channel(layer: nn.Module, axis: str, values: torch.Tensor) -> torch.Tensor:
    """Sum values of the shape of a layer's weight for each channel of an axis, shape (channels,)."""
    dim = weight_dim(layer, axis)
    return channel_sums(values, dim, 1 if isinstance(layer, _BatchNorm) or dim == 0 else getattr(layer, "groups", 1))


def channel_sums(values: torch.Tensor, dim: int, groups: int) -> torch.Tensor:
    """Sum values of the shape of a weight for each channel of a dimension, which may count those of one group alone."""
    if groups > 1:
        return values.unflatten(0, (groups, -1)).flatten(3).sum((1, 3)).flatten()
    dims = [d for d in range(values.dim()) if d != dim]
    return values.sum(dims) if dims else values


def outputs(layer: nn.Module) -> int:
    """Return the output channels of a layer."""
    if isinstance(layer, _BatchNorm):
        return layer.num_features
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def inputs(layer: nn.Module) -> int:
    """Return the input channels of a convolution or linear layer."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


@dataclass(frozen=True)
class BareTensor:
    """A parameter or buffer that a module uses without a layer.

    Attributes:
        owner (nn.Module): The module.
        name (str): Its attribute.
        dim (int): Dimension that counts channels.
    """

    owner: nn.Module
    name: str
    dim: int


@dataclass(frozen=True)
class Number:
    """An attribute of a block that holds a number of channels, or several.

    Attributes:
        owner (nn.Module): The block.
        name (str): The attribute.
        place (int | None): Which element of a list or tuple it is.
    """

    owner: nn.Module
    name: str
    place: int | None = None

    @property
    def value(self) -> int:
        """Return the number."""
        held = getattr(self.owner, self.name)
        return held if self.place is None else held[self.place]

    def set(self, number: int) -> None:
        """Replace the number; a list or tuple becomes another one."""
        held = getattr(self.owner, self.name)
        if self.place is None:
            held = number
        else:
            held = type(held)(number if i == self.place else other for i, other in enumerate(held))
        setattr(self.owner, self.name, held)


@dataclass(frozen=True)
class Queries:
    """Channels by which an attention compares, as its code may divide the sums over them by the root of their number.

    Attributes:
        owner (nn.Module): The convolution, linear layer or batch norm that puts them out.
        channels (tuple[int, ...]): Their indices there.
    """

    owner: nn.Module
    channels: tuple[int, ...]


WIDTHS: dict[type, Callable[[Any], int]] = {  # of layers with channels by which nothing is ranked
    BareTensor: lambda bare: getattr(bare.owner, bare.name).shape[bare.dim],
    Number: lambda number: number.value,
    Queries: lambda queries: len(queries.channels),
    _InstanceNorm: lambda norm: norm.num_features,
    nn.Embedding: lambda embedding: embedding.embedding_dim,
    nn.GroupNorm: lambda norm: norm.num_channels,
    nn.LayerNorm: lambda norm: norm.normalized_shape[0],
    nn.MultiheadAttention: lambda attention: attention.embed_dim,
    nn.PReLU: lambda prelu: prelu.num_parameters,
}


def width(layer: nn.Module | BareTensor | Number | Queries, axis: str) -> int:
    """Return the channels of an axis of anything that has channels."""
    if isinstance(layer, nn.Module) and is_sliced(layer):
        return outputs(layer) if axis == "out" else inputs(layer)
    return next(WIDTHS[kind] for kind in type(layer).__mro__ if kind in WIDTHS)(layer)
