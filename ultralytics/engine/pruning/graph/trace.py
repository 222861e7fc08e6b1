# SPDX-License-Identifier: AGPL-3.0-or-later
"""The trace: torch-pruning runs a network once and notes which layers read which."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.dependency.index_mapping import update_concat_index_mapping

from ultralytics.engine.pruning.graph.autograd import is_halved, pixel_flattening, unread
from ultralytics.engine.pruning.graph.heads import Ends, SideBranch
from ultralytics.engine.pruning.graph.places import SLICED
from ultralytics.nn.extra_modules.prunable import forms
from ultralytics.nn.extra_modules.prunable_adown import Half
from ultralytics.nn.extra_modules.prunable_attention import Pairing, PrunableAttention

# Operations through which torch-pruning's index mappings are wrong or explode; stock blocks that use them have prunable
# forms that do not, and what reaches them in any other block stays dense.
OPTYPE = tp.ops.OPTYPE
OPAQUE = {OPTYPE.SPLIT, OPTYPE.SLICE, OPTYPE.RESHAPE, OPTYPE.UNBIND, OPTYPE.EXPAND}


@dataclass(frozen=True)
class Trace:
    """What reads what in a network (DepGraph, Fang et al. 2023, arXiv 2301.12900).

    Attributes:
        graph (tp.DependencyGraph): Nodes for layers and operations, with torch-pruning's dependencies between them.
        clear (set): Autograd nodes of operations of an opaque kind through which channels can be followed all the same.
    """

    graph: tp.DependencyGraph
    clear: set

    def obstacle(self, node: tp.dependency.Node) -> str:
        """Return why channels cannot be followed through an operation, or an empty string."""
        if node.type in OPAQUE and node.grad_fn not in self.clear:
            return f"a block without prunable form cuts up its channels ({node.type.name.lower()})"
        if node.type == OPTYPE.CONCAT:
            tensors = node.grad_fn.next_functions
            if len({*tensors}) < len(tensors):  # torch-pruning counts a tensor once
                return "its channels are concatenated with themselves"
            if node.grad_fn._saved_dim == 1 and node.module.offsets is None:
                return "its channels are concatenated with others that torch-pruning cannot count"
        return ""


def trace(model: nn.Module, ends: Ends, example: torch.Tensor) -> Trace:
    """Let torch-pruning trace from the predictions back to the image, and from layers that nothing reads.

    Args:
        model (nn.Module): Float model in evaluation mode and prunable form; it is left as it was.
        ends (Ends): Where it ends.
        example (torch.Tensor): Input image of shape (1, C, H, W).

    Returns:
        (Trace): The graph.

    Raises:
        RuntimeError: If torch-pruning gives up on counting channels.
    """
    outputs: list[torch.Tensor] = []
    before: list[torch.Tensor] = []  # what the layers in front of the predictions put out
    predicted: set[nn.Module] = set()
    clear: set = set()
    layers = list(model.modules())

    def take_down(layer: nn.Module, _args: tuple, output: torch.Tensor) -> None:
        if layer in ends.predictions:
            predicted.add(layer)
        elif not predicted:
            before.append(output)

    traced = [*ends.predictions, *(m for m in layers if isinstance(m, Pairing))]
    hooks = [m.register_forward_hook(lambda _m, _x, y: outputs.append(y)) for m in traced]
    hooks += [m.register_forward_hook(take_down) for m in layers if type(m) in SLICED]
    hooks += [s.source.register_forward_hook(run_side_branch(s)) for s in ends.side_branches]
    halves = (m for m in layers if isinstance(m, Half))
    hooks += [m.register_forward_hook(lambda _m, _x, y: clear.add(y.grad_fn)) for m in halves]
    linears = (m for m in layers if isinstance(m, nn.Linear))
    hooks += [m.register_forward_pre_hook(lambda _m, x: clear.update(pixel_flattening(x[0]))) for m in linears]
    attention = [m for m in forms(model) if isinstance(m, PrunableAttention)]
    frozen = [p for p in model.parameters() if not p.requires_grad]

    def forward(model, x):
        model(x)
        return [*outputs, *unread(before, outputs)]

    try:
        for p in frozen:
            p.requires_grad_(True)  # the trace follows autograd's graph
        for m in attention:
            m.tracing = True
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", "Maximum recursive depth")  # it goes on with channels of unknown number
            # fresh dict and lists: torch-pruning 1.6.1 writes into default arguments
            graph = tp.DependencyGraph().build_dependency(
                model,
                example,
                forward_fn=forward,
                customized_pruners={},
                ignored_layers=[],
                ignored_params=[],
                verbose=False,
            )
    except UserWarning as warning:
        raise RuntimeError(
            f"{type(model).__name__} cannot be traced: a tensor that is concatenated has more operations behind it "
            "than torch-pruning counts channels through (500). Put a convolution between them."
        ) from warning
    finally:
        for p in frozen:
            p.requires_grad_(False)
        for m in attention:
            m.tracing = False
        for hook in hooks:
            hook.remove()
    for node in graph.module2node.values():
        if node.type == OPTYPE.CONCAT and node.module.offsets is None and is_halved(node, clear):
            # torch-pruning takes the channels of the half that is read next for those of the whole, and gives up
            readers, node.outputs = node.outputs, []
            update_concat_index_mapping(graph, node)
            node.outputs = readers
    return Trace(graph, clear)


def run_side_branch(side: SideBranch) -> Callable:
    """Return a forward hook that runs layers of training only; their own hooks do the rest."""

    def run(_module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        side.branch(side.take(args, output))

    return run
