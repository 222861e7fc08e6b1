# SPDX-License-Identifier: AGPL-3.0-or-later
"""Operations that go over many values of a tensor: poolings, sums, and what works along a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ultralytics.cfg.compress.compat.tensors import tree_leaves
from ultralytics.engine.pruning.graph.kinds import COUNTING

if TYPE_CHECKING:
    from ultralytics.engine.pruning.graph.flow import Flow


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
    dims = _dims(func, args, kwargs, x.dim())
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
    dims = _dims(func, args, kwargs, x.dim())
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


def _dims(func: Any, args: tuple, kwargs: dict, count: int) -> list[int]:
    """Return the dimensions that an operation's argument 'dim' names, or all."""
    named = {argument.name: i for i, argument in enumerate(func._schema.arguments)}
    dims = None
    if (i := named.get("dim")) is not None:
        dims = args[i] if i < len(args) else kwargs.get("dim", func._schema.arguments[i].default_value)
    if dims is None or dims == []:
        return list(range(count))
    return [d % count for d in (dims if isinstance(dims, (list, tuple)) else [dims])] if count else []
