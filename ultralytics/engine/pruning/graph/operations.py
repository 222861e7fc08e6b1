# SPDX-License-Identifier: AGPL-3.0-or-later
"""How channels pass the operations between layers, as PyTorch executes them (ATen)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.filters import filter_groups
from ultralytics.engine.pruning.graph.joins import combine, merge
from ultralytics.engine.pruning.graph.kinds import (
    ALONG,
    FACTORIES,
    FORMAT,
    MOVES,
    POINTWISE,
    REDUCTIONS,
    SAME,
    SPATIAL,
    VALUES,
    is_pointwise,
)
from ultralytics.engine.pruning.graph.labels import NONE
from ultralytics.engine.pruning.graph.parts import CUTS, numbers
from ultralytics.engine.pruning.graph.products import attend, multiply_and_add, multiply_plain
from ultralytics.engine.pruning.graph.reductions import pass_along, pool, reduce, sample

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


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
    elif name in POINTWISE or is_pointwise(func, name):
        combine(flow, inputs, output, func._schema.is_mutable)
    elif name.startswith(SPATIAL):
        pool(flow, inputs[0], output)
    elif name in RULES:
        RULES[name](flow, func, args, output)
    elif name in ALONG:
        pass_along(flow, func, args, kwargs, output)
    else:
        give_up(flow, name, inputs)


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


def _on_cpu(value: Any) -> Any:
    """Return indices, alone or in a list, on the device of the labels."""
    if isinstance(value, (list, tuple)):
        return [_on_cpu(v) for v in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value


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


ATTENTIONS = (  # of scaled_dot_product_attention, which device and precision choose among
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_fused_attention_overrideable",
)
RULES: dict[str, Callable[[Flow, Any, tuple, Any], None]] = {
    "mm": multiply_plain,
    "bmm": multiply_plain,
    "addmm": multiply_and_add,
    "baddbmm": multiply_and_add,
    **dict.fromkeys(ATTENTIONS, attend),
    "grid_sampler_2d": sample,
    "cudnn_grid_sampler": sample,
    "convolution": filter_groups,
    "native_layer_norm": normalise,
}
