# SPDX-License-Identifier: AGPL-3.0-or-later
"""Parameters of a network and bytes of its exported weights, counted and as formulas of the channels kept."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

from torch import nn

from ultralytics.engine.pruning.budget.formula import ChannelFormula, weights_per_pair
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import (
    MAKERS,
    WIDTHS,
    BareTensor,
    is_sliced,
    outputs,
    stock_places,
    width,
)
from ultralytics.engine.pruning.graph.widths import paired_inputs
from ultralytics.nn.extra_modules.prunable import to_stock
from ultralytics.utils.torch_utils import get_num_params


class Storage(NamedTuple):
    """Bytes of numbers in an exported model.

    Attributes:
        weight (int): A weight of a convolution or linear layer.
        output (int): What each of its output channels needs besides: a scale, for integers.
        other (int): Any other number, i.e. a bias.
    """

    weight: int
    output: int
    other: int


PRECISIONS = {
    "fp32": Storage(4, 0, 4),
    "fp16": Storage(2, 0, 2),
    "int8": Storage(1, 4, 4),  # symmetric, one FP32 scale per output channel, biases of 32 bits
}


PARAMETERS = Storage(1, 0, 1)  # counted instead of stored


def parameters_formula(graph: Graph) -> ChannelFormula:
    """Return the parameters of a network, norms included, as a function of the units that its groups keep."""
    bare = {rider.layer for group in graph.groups for rider in group.riders if isinstance(rider.layer, BareTensor)}
    layers = [*(m for m in graph.model.modules() if has_channels(m)), *bare]
    terms = {layer: _terms(layer, layer, PARAMETERS) for layer in layers}
    return ChannelFormula(terms, graph.groups, get_num_params(graph.model), "parameters")


def size_formula(graph: Graph, precision: str) -> ChannelFormula:
    """Return the bytes of a network's exported weights as a function of the units that its groups keep.

    Args:
        graph (Graph): Graph of the network.
        precision (str): A key of `PRECISIONS`.

    Returns:
        (ChannelFormula): Exact but for parameters outside layers, which count as if they were never pruned.
    """
    fused = as_exported(to_stock(deepcopy(graph.model)))
    exported = {name: m for name, m in fused.named_modules() if has_channels(m)}
    terms = {}
    for layer, (name, _) in stock_places(graph.model).items():
        stored = exported.get(name) or _merged(name, layer, exported)
        if stored is not None:
            terms[layer] = _terms(layer, stored, PRECISIONS[precision])
    return ChannelFormula(terms, graph.groups, count_bytes(fused, precision), "bytes")


def count_bytes(fused: nn.Module, precision: str) -> int:
    """Return the bytes of the weights of a model as exported, without the graph around them.

    Args:
        fused (nn.Module): What `as_exported` returned.
        precision (str): A key of `PRECISIONS`.
    """
    return sum(_bytes(layer, PRECISIONS[precision], recurse=False) for layer in fused.modules())


def as_exported(model: nn.Module) -> nn.Module:
    """Fuse a stock model in place as every export does: batch norms folded in, branches for training alone removed."""
    return model.float().eval().fuse(verbose=False)


def has_channels(module: nn.Module) -> bool:
    """Return True for a layer that can lose channels, whether they can be ranked by it or not."""
    return is_sliced(module) or isinstance(module, tuple(kind for kind in WIDTHS if issubclass(kind, nn.Module)))


def _terms(layer: nn.Module | BareTensor, stored: nn.Module | BareTensor, storage: Storage) -> tuple[float, float]:
    """Return what a layer stores per pair of channels and per output channel, by what is stored of it."""
    pairwise = weights_per_pair(layer) * storage.weight
    out = width(stored, "out")
    return pairwise, (_bytes(stored, storage) - pairwise * out * paired_inputs(stored)) / out


def _bytes(layer: nn.Module | BareTensor, storage: Storage, recurse: bool = True) -> int:
    """Return the bytes of a layer's parameters."""
    if isinstance(layer, BareTensor):
        tensor = getattr(layer.owner, layer.name)
        return tensor.numel() * storage.other if isinstance(tensor, nn.Parameter) else 0
    total = storage.output * outputs(layer) if isinstance(layer, MAKERS) else 0
    for name, tensor in layer.named_parameters(recurse=recurse):
        total += tensor.numel() * (storage.weight if name.endswith("weight") and tensor.dim() > 1 else storage.other)
    return total


def _merged(name: str, layer: nn.Module, exported: dict[str, nn.Module]) -> nn.Module | None:
    """Return the merged convolution of a re-parameterised block, for the branch whose kernel has its size."""
    merged = exported.get(f"{name.rpartition('.')[0].rpartition('.')[0]}.conv")
    same = getattr(layer, "kernel_size", None) == getattr(merged, "kernel_size", ())
    return merged if same else None
