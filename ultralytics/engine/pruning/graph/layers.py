# SPDX-License-Identifier: AGPL-3.0-or-later
"""How channels pass the layers that have parameters: a rule for each kind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torchvision.ops import DeformConv2d

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


def pass_conv(flow: Flow, conv: nn.Module, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Give a convolution's output channels of its own.

    One in groups may lose either whole groups, with all inputs and outputs, or the same channels of every group; the
    finer of the two is taken. A depthwise convolution is one of groups of one channel.
    """
    dim = output.dim() - 1 - len(conv.kernel_size)
    if conv.in_channels == conv.out_channels == 1 and x.shape == output.shape and len(flow.varying(flow.of(x))) == 1:
        mix_neighbours(flow, conv, x, output)
        return
    inputs = flow.channels(x, dim)
    if conv.groups == conv.in_channels == conv.out_channels > 1:
        outputs = flow.note(conv, "out", inputs)
    else:
        inputs = flow.note(conv, "in", inputs)
        outputs = flow.made(conv, conv.out_channels)
        if conv.groups > 1:
            _tie_groups(flow, inputs.view(conv.groups, -1), outputs.view(conv.groups, -1))
    flow.set_channels(output, outputs, dim)


def mix_neighbours(flow: Flow, conv: nn.Module, x: torch.Tensor, output: torch.Tensor) -> None:
    """Hand on channels that lie along a vector, over which a convolution goes."""
    flow.set(output, flow.of(x).clone())
    (dim,) = flow.varying(flow.of(x))
    flow.counted(lambda x: conv._conv_forward(x, conv.weight, conv.bias), (x,), {}, dim, output)


def _tie_groups(flow: Flow, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
    """Tie the channels of a convolution in groups, each of shape (groups, channels of a group)."""
    if len(inputs) > inputs.shape[1]:
        flow.tie(inputs[:, :1], inputs)
        flow.tie(outputs[:, :1], outputs)
        flow.tie(inputs[:, 0], outputs[:, 0])
        fixed = (inputs == 0).any(1)
        if fixed.any():
            flow.hold(outputs[fixed], "its groups read inputs that are no channels")
    else:
        flow.tie(inputs[:1], inputs)
        flow.tie(outputs[:1], outputs)
        _hold_mixed(flow, inputs)


def _hold_mixed(flow: Flow, rows: torch.Tensor) -> None:
    """Leave the channels of groups whole that have other values among them, which cannot go with them."""
    fixed = rows == 0
    if fixed.any() and not fixed.all():
        flow.hold(rows[~fixed], "they are in groups with values that are no channels")


def pass_deformable(
    flow: Flow, conv: nn.Module, x: torch.Tensor, offset: torch.Tensor, *mask: Any, output: torch.Tensor, **more: Any
) -> None:
    """Treat a deformable convolution as any other, whose offsets and weights of pixels stay whole."""
    flow.keep([offset, mask, more], "its outputs say where to look")
    pass_conv(flow, conv, x, output=output)


def pass_linear(flow: Flow, linear: nn.Linear, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Give a linear layer's output channels of its own, along the last dimension."""
    flow.note(linear, "in", flow.channels(x, -1))
    flow.set_channels(output, flow.made(linear, linear.out_features), -1)


def pass_norm(flow: Flow, norm: nn.Module, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Hand on the channels of a layer that treats each by itself, along dimension 1."""
    dim = 0 if x.dim() == 1 else 1
    channels = flow.channels(x, dim)
    flow.set_channels(output, flow.note(norm, "out", channels), dim)


def pass_group_norm(flow: Flow, norm: nn.GroupNorm, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Hand on the channels of a group norm, which may lose whole groups, or the same channels of every group."""
    pass_norm(flow, norm, x, output=output)
    rows = flow.channels(x, 1).view(norm.num_groups, -1)
    flow.tie(rows[:, :1] if len(rows) >= rows.shape[1] else rows[:1], rows)
    _hold_mixed(flow, rows)
    flow.grouped(norm, x, output)


def pass_layer_norm(flow: Flow, norm: nn.LayerNorm, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Hand on the channels of a layer norm over one dimension."""
    if len(norm.normalized_shape) > 1:
        flow.keep(x, "its outputs are normalised over more than their channels")
        return
    dim = _normed_dim(norm, x, output)
    flow.set_channels(output, flow.note(norm, "out", flow.channels(x, dim)), dim)
    flow.normalised(x, (norm.weight, norm.bias), dim, norm.eps, output)


def _normed_dim(norm: nn.LayerNorm, x: torch.Tensor, output: torch.Tensor) -> int:
    """Return the dimension over which a layer norm goes: the last one, or that of an image's channels in some kinds."""
    (count,) = norm.normalized_shape
    if type(norm).forward is nn.LayerNorm.forward or x.shape[1] != count:
        return -1
    if x.shape[-1] != count:
        return 1
    over_last = nn.functional.layer_norm(x, (count,), norm.weight, norm.bias, norm.eps)
    return -1 if torch.allclose(over_last, output, rtol=1e-3, atol=1e-5) else 1


def pass_prelu(flow: Flow, prelu: nn.PReLU, x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Hand on the channels of a PReLU, of one parameter or of one for each channel."""
    if prelu.num_parameters == 1:
        flow.set(output, flow.of(x).clone())
    else:
        pass_norm(flow, prelu, x, output=output)


def pass_embedding(flow: Flow, embedding: nn.Embedding, _x: torch.Tensor, *_: Any, output: torch.Tensor) -> None:
    """Give an embedding's output channels of its own, along the last dimension."""
    flow.set_channels(output, flow.made(embedding, embedding.embedding_dim), -1)


def pass_attention(
    flow: Flow,
    attention: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *rest: Any,
    output: tuple,
    **more: Any,
) -> None:
    """Let every head of an attention lose the same channels, together with those of the tensors that go in and out.

    All are as wide as its heads together, and stay so: channel i of every head is one unit.
    """
    flow.keep([rest, more, output[1]], "its outputs are masks or weights of an attention")
    if attention.in_proj_weight is None or attention.bias_k is not None:
        flow.keep([query, key, value], "its outputs are attended to in another width")
        return
    channels = flow.channels(query, -1)
    for other in (flow.channels(key, -1), flow.channels(value, -1)):
        flow.tie(channels, other)
        channels = torch.maximum(channels, other)  # a query may be a parameter, which belongs to no channel
    channels = flow.note(attention, "out", channels)
    heads = channels.view(attention.num_heads, -1)
    flow.tie(heads[:1], heads)
    flow.set_channels(output[0], channels, -1)
    flow.attended(attention, channels, (query, key, value, *rest), more, output[0])


RULES: dict[type[nn.Module], Callable[..., None]] = {
    DeformConv2d: pass_deformable,
    _ConvNd: pass_conv,
    nn.Linear: pass_linear,
    _BatchNorm: pass_norm,
    _InstanceNorm: pass_norm,
    nn.GroupNorm: pass_group_norm,
    nn.LayerNorm: pass_layer_norm,
    nn.PReLU: pass_prelu,
    nn.Embedding: pass_embedding,
    nn.MultiheadAttention: pass_attention,
}


def register_rule(kind: type[nn.Module], rule: Callable[..., None]) -> None:
    """Set how channels pass a kind of layer, and those that inherit from it.

    Args:
        kind (type[nn.Module]): Class of the layer.
        rule (Callable): Takes a `Flow`, the layer, the arguments that the layer was called with, and `output=`.

    Raises:
        TypeError: If they are no class of a layer and no function.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and callable(rule)):
        raise TypeError(f"register_rule takes the class of a layer and a function, not {kind} and {rule}.")
    RULES[kind] = rule
    _rule_of.cache_clear()


def find_rule(module: nn.Module) -> Callable[..., None] | None:
    """Return the rule for a layer, or None for any other module, in which every operation is followed."""
    return _rule_of(type(module))  # type: ignore[arg-type]  # classes are hashable; mypy skips torch


@functools.cache
def _rule_of(kind: type[nn.Module]) -> Callable[..., None] | None:
    return next((RULES[base] for base in kind.__mro__ if base in RULES), None)
