# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prune a model: dense model in, pruned model of stock Ultralytics classes out."""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import nn

from ultralytics.engine.pruning.cut import channels_to_keep, cut
from ultralytics.engine.pruning.flops import FlopsFormula, count_flops
from ultralytics.engine.pruning.groups import Graph, example_image
from ultralytics.engine.pruning.history import History
from ultralytics.engine.pruning.methods import METHODS
from ultralytics.engine.pruning.scoring import Losses, score_groups
from ultralytics.engine.pruning.selection import Budget, select_units
from ultralytics.nn.extra_modules import prunable_copy, to_stock
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_num_params


def prune_model(
    model: nn.Module,
    speed_up: float = 2.0,
    method: str = "lamp",
    global_pruning: bool = True,
    round_to: int = 8,
    max_sparsity: float = 1.0,
    limits: Mapping[str, float] | None = None,
    losses: Losses | None = None,
    iterative_steps: int = 1,
    seed: int = 0,
) -> tuple[nn.Module, dict]:
    """Remove the least important channels of a network until its FLOPs meet a target.

    Args:
        model (nn.Module): Unfused Ultralytics model; it is left as it was.
        speed_up (float): Target: FLOPs of the dense model over FLOPs of the pruned one, greater than 1.
        method (str): A key of `ultralytics.engine.pruning.methods.METHODS`.
        global_pruning (bool): Rank the channels of all layers together, or remove the same share from every layer.
        round_to (int): Keep a multiple of this many channels per layer, or all of them.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].
        limits (Mapping[str, float], optional): The same for single groups, by the name of the convolution that they
            were found from; see `ultralytics.engine.pruning.sensitivity.limits_from`.
        losses (Callable, optional): For methods that need gradients: takes the model, in train mode with frozen batch
            norms, and yields scalar losses, one per batch (per image for 'group_hessian').
        iterative_steps (int): Cuts on the way to the target, equal in their ratio, with new scores before each. Only
            for methods that need gradients; a cut hardly changes the ranking of the others, so they make one.
        seed (int): Seed of method 'random'.

    Returns:
        model (nn.Module): Pruned copy in evaluation mode, FP32, on the same device, of stock Ultralytics classes.
        record (dict): What was done, of plain types: the arguments, 'reached', 'gflops' and 'parameters' of both
            models, 'seconds' (what pruning took, gradients included), 'channels' (convolution name to the indices of
            the 'out' and 'in' channels kept) and 'left_dense' (layer name to reason).

    Raises:
        ValueError: If the method is unknown or lacks losses, the model is fused or has no detection head, or the
            target is out of reach.

    Examples:
        >>> from ultralytics import YOLO
        >>> from ultralytics.engine.pruning.prune import prune_model
        >>> pruned, record = prune_model(YOLO("yolov8n.pt").model, speed_up=2.0)
    """
    if method not in METHODS:
        raise ValueError(f"'method={method}' is unknown. Valid methods are {', '.join(METHODS)}.")
    if METHODS[method].needs_gradients and losses is None:
        raise ValueError(f"'method={method}' needs gradients: pass 'losses', which yields losses of the model.")
    if speed_up <= 1:
        raise ValueError(f"'speed_up={speed_up}' is an invalid value. 'speed_up' must be greater than 1.0.")
    begin = time.perf_counter()
    device = next(model.parameters()).device
    pruned = prunable_copy(model)
    history = History(pruned)
    example = example_image(pruned)
    steps = iterative_steps if METHODS[method].needs_gradients else 1
    budget = Budget(speed_up, global_pruning, round_to, max_sparsity, limits or {})
    dense = None
    for step in range(1, steps + 1):
        graph = Graph(pruned, example)
        formula = FlopsFormula(pruned, graph.groups, example, count_flops(pruned))
        dense = dense or formula.dense
        scores = score_groups(pruned, graph.groups, METHODS[method], losses, seed)
        sizes = [history.dense_size(group) for group in graph.groups]
        units = select_units(graph, formula, scores, budget, dense, sizes, step / steps)
        kept = channels_to_keep(pruned, graph.groups, units)
        history.note(kept)
        cut(pruned, kept)
    pruned = to_stock(pruned)

    dense_flops, pruned_flops = count_flops(model), count_flops(pruned)
    record = {
        "method": method,
        "global_pruning": global_pruning,
        "round_to": round_to,
        "max_sparsity": max_sparsity,
        "target": speed_up,
        "reached": dense_flops / pruned_flops,
        "gflops": {"dense": dense_flops, "pruned": pruned_flops},
        "parameters": {"dense": get_num_params(model), "pruned": get_num_params(pruned)},
        "seconds": time.perf_counter() - begin,
        "left_dense": graph.dense,
        "channels": history.channels(),
    }
    LOGGER.info(
        f"Pruned by {method}: {record['parameters']['dense']:,} to {record['parameters']['pruned']:,} parameters, "
        f"{dense_flops:.2f} to {pruned_flops:.2f} GFLOPs, speed-up {record['reached']:.3f} (target {speed_up}), "
        f"in {record['seconds']:.1f} s"
    )
    return pruned.to(device), record
