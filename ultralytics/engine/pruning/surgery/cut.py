# SPDX-License-Identifier: AGPL-3.0-or-later
"""The cut: remove units from a network by slicing its layers, once each.

Convolutions, linear layers and batch norms, in whichever groups, are sliced here; other layers by torch-pruning, which
has a function for each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch_pruning as tp
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torchvision.ops import DeformConv2d

from ultralytics.engine.pruning.graph.groups import Group
from ultralytics.engine.pruning.graph.places import (
    MAKERS,
    BareTensor,
    Number,
    Queries,
    inputs,
    is_depthwise,
    is_sliced,
    outputs,
    weight_dim,
    width,
)
from ultralytics.nn.modules.conv import RepConv

Kept = dict[nn.Module, dict[str, torch.Tensor]]  # layer: axis 'out' or 'in': indices of the channels kept


def channels_to_keep(model: nn.Module, groups: Sequence[Group], units: Sequence[torch.Tensor]) -> Kept:
    """Return the channels that every layer keeps.

    Args:
        model (nn.Module): The model that the groups belong to.
        groups (Sequence[Group]): Groups.
        units (Sequence[torch.Tensor]): Indices of the units that each group keeps.

    Returns:
        (dict[nn.Module, dict[str, torch.Tensor]]): Layer to axis to ascending channel indices. A depthwise
            convolution's inputs are its outputs.
    """
    masks: dict[nn.Module, dict[str, torch.Tensor]] = {}
    for m in model.modules():
        if is_sliced(m):
            masks[m] = {"out": torch.ones(outputs(m), dtype=torch.bool)}
            if isinstance(m, MAKERS):
                masks[m]["in"] = torch.ones(inputs(m), dtype=torch.bool)
    for group, kept in zip(groups, units):
        keep = torch.zeros(group.size, dtype=torch.bool)
        keep[kept] = True
        for s in [*group.slices, *group.riders]:
            axes = masks.setdefault(s.layer, {})
            axes.setdefault(s.axis, torch.ones(width(s.layer, s.axis), dtype=torch.bool))[s.channels] = keep[s.units]
            if is_depthwise(s.layer):
                axes["in"] = axes["out"]
    return {m: {axis: mask.nonzero().flatten() for axis, mask in axes.items()} for m, axes in masks.items()}


def cut(model: nn.Module, kept: Kept) -> None:
    """Slice layers in place, so that only the given channels are left.

    Args:
        model (nn.Module): The model that the layers belong to.
        kept (dict[nn.Module, dict[str, torch.Tensor]]): What `channels_to_keep` returned.
    """
    # queries are scaled where they are in the dense layer, which must not be sliced yet
    for layer, axes in sorted(kept.items(), key=lambda item: not isinstance(item[0], Queries)):
        find_slicer(layer)(layer, **{f"{axis}_channels": index for axis, index in axes.items()})
    for block in model.modules():
        for kind, match in ATTRIBUTES.items():
            if isinstance(block, kind):
                match(block)


def slice_conv(conv: nn.Conv2d, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input channels of a convolution.

    Args:
        conv (nn.Conv2d): Convolution; one in groups keeps whole groups, or the same channels of every group.
        out_channels (torch.Tensor): Output channels to keep.
        in_channels (torch.Tensor): Input channels to keep.
    """
    size = conv.in_channels // conv.groups
    groups = (in_channels // size).unique()
    columns = in_channels[in_channels // size == groups[0]] % size
    conv.groups = len(groups)
    conv.weight = _parameter(conv.weight[out_channels][:, columns], conv.weight)
    if conv.bias is not None:
        conv.bias = _parameter(conv.bias[out_channels], conv.bias)
    conv.out_channels, conv.in_channels = len(out_channels), len(in_channels)


def slice_batch_norm(norm: nn.BatchNorm2d, out_channels: torch.Tensor) -> None:
    """Keep some channels of a batch norm, or of an instance norm.

    Args:
        norm (nn.BatchNorm2d): Norm, with or without parameters and running statistics.
        out_channels (torch.Tensor): Channels to keep.
    """
    if norm.affine:
        norm.weight, norm.bias = (_parameter(p[out_channels], p) for p in (norm.weight, norm.bias))
    if norm.running_mean is not None:
        norm.running_mean, norm.running_var = norm.running_mean[out_channels], norm.running_var[out_channels]
    norm.num_features = len(out_channels)


def slice_conv_transpose(conv: nn.ConvTranspose2d, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input channels of a transposed convolution, whose weight has inputs first.

    Args:
        conv (nn.ConvTranspose2d): Transposed convolution; one in groups keeps whole groups, or the same channels of
            every group.
        out_channels (torch.Tensor): Output channels to keep.
        in_channels (torch.Tensor): Input channels to keep.
    """
    size = conv.out_channels // conv.groups
    groups = (out_channels // size).unique()
    columns = out_channels[out_channels // size == groups[0]] % size
    conv.groups = len(groups)
    conv.weight = _parameter(conv.weight[in_channels][:, columns], conv.weight)
    if conv.bias is not None:
        conv.bias = _parameter(conv.bias[out_channels], conv.bias)
    conv.out_channels, conv.in_channels = len(out_channels), len(in_channels)


def slice_linear(linear: nn.Linear, out_channels: torch.Tensor, in_channels: torch.Tensor) -> None:
    """Keep some output and input features of a linear layer.

    Args:
        linear (nn.Linear): Linear layer.
        out_channels (torch.Tensor): Output features to keep.
        in_channels (torch.Tensor): Input features to keep.
    """
    linear.weight = _parameter(linear.weight[out_channels][:, in_channels], linear.weight)
    if linear.bias is not None:
        linear.bias = _parameter(linear.bias[out_channels], linear.bias)
    linear.out_features, linear.in_features = len(out_channels), len(in_channels)


def slice_attention(attention: nn.MultiheadAttention, out_channels: torch.Tensor) -> None:
    """Keep some channels of every head, and the same ones of inputs and outputs.

    PyTorch divides scores by the root of the present size of a head; queries make up for what that has lost.

    Args:
        attention (nn.MultiheadAttention): Attention whose queries, keys and values are equally wide.
        out_channels (torch.Tensor): Channels to keep, the same of every head.
    """
    dense = attention.embed_dim
    by_torch_pruning(tp.prune_multihead_attention_out_channels)(attention, out_channels)
    for joint in (attention.in_proj_weight, attention.in_proj_bias):
        if joint is not None:
            joint.data[: attention.embed_dim] *= queries_factor(attention.embed_dim, dense)


def slice_group_norm(norm: nn.GroupNorm, out_channels: torch.Tensor) -> None:
    """Keep some channels of a group norm: whole groups, or the same of every group.

    Args:
        norm (nn.GroupNorm): Group norm.
        out_channels (torch.Tensor): Channels to keep.
    """
    groups = len((out_channels // (norm.num_channels // norm.num_groups)).unique())
    by_torch_pruning(tp.prune_groupnorm_out_channels)(norm, out_channels)
    norm.num_groups = groups


def slice_bare_tensor(bare: BareTensor, out_channels: torch.Tensor) -> None:
    """Keep some channels of a parameter or buffer.

    Args:
        bare (BareTensor): Where it is.
        out_channels (torch.Tensor): Channels to keep.
    """
    tensor = getattr(bare.owner, bare.name)
    values = tensor.index_select(bare.dim, out_channels.to(tensor.device))
    setattr(bare.owner, bare.name, _parameter(values, tensor) if isinstance(tensor, nn.Parameter) else values)


def set_number(number: Number, out_channels: torch.Tensor) -> None:
    """Set the number of channels that a block holds.

    Args:
        number (Number): Which it is.
        out_channels (torch.Tensor): Channels to keep.
    """
    number.set(len(out_channels))


def queries_factor(left: int, dense: int) -> float:
    """Return by what queries are multiplied that lose channels.

    An attention divides sums over them by the root of their number (Vaswani et al., arXiv 1706.03762), which falls.

    Args:
        left (int): Channels that are kept.
        dense (int): Channels before.
    """
    return (left / dense) ** 0.5


def rescale_queries(queries: Queries, out_channels: torch.Tensor) -> None:
    """Let queries make up for a division by the root of their number.

    Args:
        queries (Queries): Where they are, before that layer is sliced.
        out_channels (torch.Tensor): Those to keep.
    """
    layer = queries.owner
    rows = torch.tensor(queries.channels, device=layer.weight.device)
    factor = queries_factor(len(out_channels), len(queries.channels))
    for name, dim in (("weight", weight_dim(layer, "out")), ("bias", 0)):
        if (values := getattr(layer, name)) is not None:
            values.data.index_copy_(dim, rows, values.data.index_select(dim, rows) * factor)


def by_torch_pruning(remove: Callable) -> Callable[..., None]:
    """Return a slicer for a kind of layer that lets torch-pruning remove the other channels.

    Args:
        remove (Callable): Function of torch-pruning that takes a layer and the channels to remove.
    """

    def keep(layer: nn.Module, out_channels: torch.Tensor) -> None:
        frozen = [name for name, p in layer.named_parameters() if not p.requires_grad]
        gone = sorted({*range(width(layer, "out"))} - {*out_channels.tolist()})
        if gone:
            remove(layer, gone)
        for name in frozen:
            layer.get_parameter(name).requires_grad_(False)

    return keep


def match_rep_conv(block: RepConv) -> None:
    """Let the attributes by which a RepConv fuses say what its convolutions are."""
    block.c1, block.c2 = block.conv1.conv.in_channels, block.conv1.conv.out_channels
    block.g = block.conv1.conv.groups


def find_slicer(layer: nn.Module) -> Callable[..., None]:
    """Return the function that slices a layer, by its class or the nearest that it inherits from."""
    return next(SLICERS[kind] for kind in type(layer).__mro__ if kind in SLICERS)


SLICERS: dict[type[nn.Module], Callable[..., None]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, DeformConv2d), slice_conv),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), slice_conv_transpose),
    nn.Linear: slice_linear,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), slice_batch_norm),
    _InstanceNorm: slice_batch_norm,
    nn.GroupNorm: slice_group_norm,
    nn.MultiheadAttention: slice_attention,
    nn.LayerNorm: by_torch_pruning(tp.prune_layernorm_out_channels),
    nn.PReLU: by_torch_pruning(tp.prune_prelu_out_channels),
    nn.Embedding: by_torch_pruning(tp.prune_embedding_out_channels),
    BareTensor: slice_bare_tensor,
    Number: set_number,
    Queries: rescale_queries,
}
ATTRIBUTES = {RepConv: match_rep_conv}  # stock blocks that keep channel counts in attributes which they compute with


def _parameter(values: torch.Tensor, like: nn.Parameter) -> nn.Parameter:
    """Return a parameter of its own memory that requires gradients as the old one did."""
    return nn.Parameter(values.detach().clone(), requires_grad=like.requires_grad)
