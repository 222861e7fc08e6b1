# SPDX-License-Identifier: AGPL-3.0-or-later
"""How channels pass the operations between layers, as PyTorch executes them (ATen)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.labels import NONE
from ultralytics.engine.pruning.graph.parts import CUTS, numbers

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow

# operations that put values elsewhere, each with the arguments that are values; those not named have them first
MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "_reshape_alias",
            "_unsafe_view",
            "alias",
            "cat",
            "channel_shuffle",
            "clone",
            "col2im",
            "constant_pad_nd",
            "contiguous",
            "detach",
            "expand",
            "flip",
            "gather",
            "im2col",
            "index",
            "index_select",
            "lift_fresh",
            "native_channel_shuffle",
            "pixel_shuffle",
            "pixel_unshuffle",
            "reflection_pad1d",
            "reflection_pad2d",
            "reflection_pad3d",
            "repeat",
            "repeat_interleave",
            "replication_pad1d",
            "replication_pad2d",
            "replication_pad3d",
            "reshape",
            "roll",
            "rot90",
            "stack",
            "take_along_dim",
            "unsafe_chunk",
            "unsafe_split",
            "unsafe_split_with_sizes",
        ),
        (0,),
    ),
    "index_put": (0, 2),
    "select_scatter": (0, 1),
    "slice_scatter": (0, 1),
    "scatter": (0, 3),
}
SAME = {"_to_copy", "_conj", "bernoulli", "lift"}  # values stay where they are
FORMAT = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}  # of values, not of labels
POINTWISE = {"_prelu_kernel", "hardswish", "native_dropout", "copy", "masked_fill", "fill", "rsub"}  # without the tag
POINTWISE |= {  # older releases of torch do not tag these
    *("celu", "elu", "hardshrink", "hardsigmoid", "hardtanh", "isfinite", "isinf", "leaky_relu", "mish", "relu6"),
    *("rrelu", "selu", "silu", "softplus", "softshrink", "threshold"),
}
SPATIAL = ("adaptive_", "_adaptive_", "avg_pool", "max_pool", "upsample_", "_upsample_", "fractional_max_pool")
REDUCTIONS = {
    *("all", "amax", "amin", "any", "argmax", "argmin", "linalg_vector_norm", "logsumexp", "max", "mean", "median"),
    *("min", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean", "topk"),
}
COUNTING = {"_log_softmax", "_softmax", "amax", "amin", "linalg_vector_norm", "logsumexp", "max", "mean", "min", "prod"}
COUNTING |= {"std", "sum", "var", "var_mean", "std_mean", "norm"}  # over channels in any order
VALUES = {"_local_scalar_dense", "equal", "is_nonzero"}  # of tensors, told as numbers; others ask for sizes and devices
FACTORIES = {f"{kind}_like" for kind in ("empty", "full", "ones", "rand", "randn", "zeros")}
FACTORIES |= {f"new_{kind}" for kind in ("empty", "empty_strided", "full", "ones", "zeros")}
ALONG = {"_log_softmax", "_softmax", "cummax", "cummin", "cumprod", "cumsum", "logcumsumexp", "sort"}


def follow(flow: Flow, func: torch._ops.OpOverload, args: tuple, kwargs: dict, output: Any) -> None:
    """Label what an operation has put out.

    Args:
        flow (Flow): The labels.
        func (torch._ops.OpOverload): The operation.
        args (tuple): Its arguments.
        kwargs (dict): Its keyword arguments.
        output (Any): What it returned.
    """
    name = func._schema.name.removeprefix("aten::")
    name = name.removesuffix("_") if func._schema.is_mutable else name
    inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if not any(isinstance(t, torch.Tensor) for t in tree_leaves(output)) and name not in VALUES:
        return
    if func.is_view or (name in MOVES and any(map(flow.is_labelled, inputs))):
        move(flow, name, args, kwargs, output)
    elif name in FACTORIES or not any(map(flow.is_labelled, inputs)):
        return
    elif name in SAME:
        flow.set(output, flow.of(inputs[0]).clone())
    elif name in REDUCTIONS and len(inputs) == 1:
        reduce(flow, func, args, kwargs, output)
    elif name in POINTWISE or _is_pointwise(func, name):
        combine(flow, inputs, output, func._schema.is_mutable)
    elif name.startswith(SPATIAL):
        pool(flow, inputs[0], output)
    elif name in RULES:
        RULES[name](flow, func, args, output)
    elif name in ALONG:
        pass_along(flow, func, args, kwargs, output)
    else:
        give_up(flow, name, inputs)


def _is_pointwise(func: torch._ops.OpOverload, name: str) -> bool:
    """Return True if any overload of an operation is tagged as one that works element by element."""
    packet = getattr(torch.ops.aten, name, func.overloadpacket)
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())


def _on_cpu(value: Any) -> Any:
    """Return indices, alone or in a list, on the device of the labels."""
    if isinstance(value, (list, tuple)):
        return [_on_cpu(v) for v in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value


def give_up(flow: Flow, name: str, inputs: Any) -> None:
    """Leave whole what enters an operation through which channels cannot be followed."""
    flow.keep(inputs, f"its channels cannot be followed through '{name}'")


def move(flow: Flow, name: str, args: tuple, kwargs: dict, output: Any) -> None:
    """Move labels as values were moved; of a view, the result is a view of the labels as well."""
    places = MOVES.get(name, (0,))
    lists = (list, tuple)
    labels = [
        (tuple(map(flow.of, a)) if isinstance(a, lists) else flow.of(a)) if i in places else _on_cpu(a)
        for i, a in enumerate(args)
    ]
    how = {k: _on_cpu(v) for k, v in kwargs.items() if k not in FORMAT}
    operation = "reshape" if name in ("view", "_unsafe_view", "_reshape_alias") else name
    if name == "constant_pad_nd":
        labels[2:] = [NONE]
    try:
        moved = getattr(torch.ops.aten, operation)(*labels, **how)
    except (RuntimeError, TypeError):  # labels are FP64 on the CPU, where not every operation exists
        give_up(flow, name, args)
        return
    for tensor, label in zip(tree_leaves(output), tree_leaves(moved)):
        if isinstance(tensor, torch.Tensor):
            flow.set(tensor, label)
    if name in CUTS and not flow.is_trusted() and (dims := flow.varying(flow.of(args[0]))):
        CUTS[name](flow, flow.of(args[0]), dims, args, moved)
        for number, channels in numbers(flow, flow.of(args[0]), args if name == "slice" else (), moved):
            flow.told(number, channels)
        flow.doubt(flow.of(args[0]), f"its channels are cut up ({name})")


def combine(flow: Flow, inputs: Sequence[torch.Tensor], output: Any, in_place: bool) -> None:
    """Tie the channels that meet in an element."""
    result = next(t for t in tree_leaves(output) if isinstance(t, torch.Tensor))
    merged = merge(flow, [flow.of(t).expand(result.shape) for t in inputs if flow.is_labelled(t)])
    for constant in inputs:
        if not flow.is_labelled(constant) and constant.dim() and constant is not result:
            flow.met(merged, constant.expand(result.shape))
    if in_place and _is_solid(flow.of(result)):
        flow.of(result).copy_(merged)
    else:
        for tensor in tree_leaves(output):
            flow.set(tensor, merged.clone())


def merge(flow: Flow, labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tie labels of one shape that meet, and return those of the result.

    What has one channel where another has many is spread over them; it must stay, but ties none of them.

    Args:
        flow (Flow): The labels.
        labels (Sequence[torch.Tensor]): Labels of one shape, expanded where a tensor is broadcast.

    Returns:
        (torch.Tensor): Labels of that shape.
    """
    spread = {id(t): [d for d, n in enumerate(t.shape) if n > 1 and t.stride(d) == 0] for t in labels}
    merged, *others = sorted(labels, key=lambda t: len(spread[id(t)]))
    dims = spread[id(merged)]
    for other in others:
        if any(flow.varies(merged, d) for d in spread[id(other)]):
            flow.hold(other, "its channel is spread over those of other layers")
        elif any(flow.varies(other, d) for d in dims):
            flow.hold(merged, "its channel is spread over those of other layers")
            merged, dims = other, spread[id(other)]
        else:
            flow.tie(merged, other)
        merged = torch.where(merged == NONE, other, merged)
    return merged


def _is_solid(labels: torch.Tensor) -> bool:
    """Return True if labels can be written to in place."""
    return all(n == 1 or labels.stride(d) for d, n in enumerate(labels.shape))


def pool(flow: Flow, x: torch.Tensor, output: Any) -> None:
    """Hand on channels where every image and channel is treated by itself."""
    result = output[0] if isinstance(output, tuple) else output
    labels = flow.of(x).flatten(2)
    first = labels.amax(2)
    flow.tie(first[..., None], labels)
    flow.set(result, first.view(*first.shape, *[1] * (result.dim() - 2)).expand(result.shape).contiguous())


def sample(flow: Flow, _func: Any, args: tuple, output: torch.Tensor) -> None:
    """Hand on the channels of what is sampled; the coordinates stay whole."""
    flow.keep(args[1], "its outputs say where to look")
    pool(flow, args[0], output)


def reduce(flow: Flow, func: Any, args: tuple, kwargs: dict, output: Any) -> None:
    """Hand on channels that a reduction goes along with, and let it count those that it goes over."""
    x = args[0]
    labels = flow.of(x)
    dims = _dims(args, kwargs, x.dim())
    if any(flow.varies(labels, d) for d in dims):
        if {*flow.varying(labels)} <= {*dims}:
            count(flow, func, args, kwargs, dims, output)
            return
        for d in dims:  # they meet as in a sum of tensors
            flow.tie(labels, labels.narrow(d, 0, 1))
    result = output[0] if isinstance(output, tuple) else output
    reduced = labels.amax(dims, keepdim=True)
    if func._schema.name == "aten::topk":
        reduced = reduced.expand(result.shape)
    for tensor in tree_leaves(output):
        flow.set(tensor, reduced.reshape(tensor.shape).clone())


def pass_along(flow: Flow, func: Any, args: tuple, kwargs: dict, output: Any) -> None:
    """Hand on the channels of an operation that works along a dimension, and let it count those that lie there."""
    x = args[0]
    dims = _dims(args, kwargs, x.dim())
    if any(flow.varies(flow.of(x), d) for d in dims):
        count(flow, func, args, kwargs, dims, output)
    for tensor in tree_leaves(output):
        flow.set(tensor, flow.of(x).clone())


def count(flow: Flow, func: Any, args: tuple, kwargs: dict, dims: Sequence[int], output: Any) -> None:
    """Let an operation count channels that lie along one dimension, if their order there does not matter."""
    name = func._schema.name.removeprefix("aten::")
    if name in COUNTING and len(dims := [d for d in dims if flow.varies(flow.of(args[0]), d)]) == 1:
        flow.counted(func, args, kwargs, dims[0], output)
    else:
        flow.keep(args, f"'{name}' counts its channels")


def _dims(args: tuple, kwargs: dict, count: int) -> list[int]:
    """Return the dimensions that are named in an operation's arguments, or all."""
    named = (a for a in args[1:] if isinstance(a, (int, list)) and not isinstance(a, bool))
    dims = kwargs.get("dim", next(named, None))
    if dims is None or dims == []:
        return list(range(count))
    return [d % count for d in (dims if isinstance(dims, (list, tuple)) else [dims])] if count else []


def multiply(flow: Flow, a: torch.Tensor, b: torch.Tensor, output: torch.Tensor) -> bool:
    """Tie the channels that a product of matrices sums over, and hand on those along its other dimensions.

    Args:
        flow (Flow): The labels.
        a (torch.Tensor): Shape (..., rows, n).
        b (torch.Tensor): Shape (..., n, columns).
        output (torch.Tensor): Shape (..., rows, columns).

    Returns:
        (bool): True if it sums over channels.
    """
    first, second = flow.of(a), flow.of(b)
    along = flow.varies(first, -1), flow.varies(second, -2)
    across = flow.varies(first, -2), flow.varies(second, -1)
    if (along[0] and across[0]) or (along[1] and across[1]) or (across[0] and across[1]):
        flow.keep([a, b], "a product mixes its channels along two dimensions")
        return False
    if any(along):
        if not (flow.is_labelled(a) and flow.is_labelled(b)):
            flow.keep([a, b], "its channels are multiplied by numbers that are no layer's")
            return False
        flow.tie(first[..., 0, :], second[..., 0])
    parts = [
        labels.expand(output.shape)
        for labels, summed in ((first[..., :1], along[0]), (second[..., :1, :], along[1]))
        if not summed and (labels != NONE).any()
    ]
    flow.set(output, merge(flow, parts).clone() if parts else torch.zeros(output.shape, dtype=flow.dtype))
    return any(along)


def multiply_plain(flow: Flow, func: Any, args: tuple, output: torch.Tensor) -> None:
    """Follow a product of matrices."""
    if multiply(flow, args[0], args[1], output):
        flow.multiplied(func, args, 0, output)


def multiply_and_add(flow: Flow, func: Any, args: tuple, output: torch.Tensor) -> None:
    """Follow a product of matrices to which something is added."""
    if multiply(flow, args[1], args[2], output):
        flow.multiplied(func, args, 1, output)
    combine(flow, [args[0], output], output, in_place=False)


def attend(flow: Flow, func: Any, args: tuple, output: Any) -> None:
    """Follow an attention: queries with keys channel by channel, and values to the output."""
    query, key, value, *rest = args
    flow.keep(rest, "its outputs are masks of an attention")
    result = output[0] if isinstance(output, tuple) else output
    scores, keys = query.new_empty(*query.shape[:-1], key.shape[-2]), key.transpose(-2, -1)
    flow.set(keys, flow.of(key).transpose(-2, -1))
    if multiply(flow, query, keys, scores):
        flow.multiplied(func, args, 0, result)
    multiply(flow, scores, value, result)


def normalise(flow: Flow, func: Any, args: tuple, output: Any) -> None:
    """Follow a layer norm over channels that are one dimension."""
    x, shape, *parameters = args[:4]
    if len(shape) > 1:
        flow.keep(args, "its outputs are normalised over more than their channels")
        return
    tensors = [x, *(p for p in parameters if p is not None)]
    flow.set(output[0], merge(flow, [flow.of(t).expand(x.shape) for t in tensors if flow.is_labelled(t)]).clone())
    if flow.varies(flow.of(x), x.dim() - 1):
        if flow.varying(flow.of(x)) != [x.dim() - 1]:
            flow.keep(args, "'layer_norm' counts its channels")
        flow.normalised(x, parameters, -1, args[4], output[0])


RULES: dict[str, Callable[[Flow, Any, tuple, Any], None]] = {
    "mm": multiply_plain,
    "bmm": multiply_plain,
    "addmm": multiply_and_add,
    "baddbmm": multiply_and_add,
    "_scaled_dot_product_flash_attention_for_cpu": attend,
    "_scaled_dot_product_attention_math": attend,
    "grid_sampler_2d": sample,
    "native_layer_norm": normalise,
}
