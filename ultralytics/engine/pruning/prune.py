# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prune a model: dense model in, pruned model of stock Ultralytics classes out."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from ultralytics.engine.pruning.budget import couple, solve_budget
from ultralytics.engine.pruning.cut import Kept, channels_to_keep, cut
from ultralytics.engine.pruning.flops import FlopsFormula, count_flops
from ultralytics.engine.pruning.groups import Graph
from ultralytics.engine.pruning.methods import METHODS
from ultralytics.nn.extra_modules import PRUNABLE_FORMS, to_prunable, to_stock
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_num_params


def prune_model(
    model: nn.Module,
    speed_up: float = 2.0,
    method: str = "lamp",
    global_pruning: bool = True,
    round_to: int = 8,
    max_sparsity: float = 1.0,
) -> tuple[nn.Module, dict]:
    """Remove the least important channels of a network until its FLOPs meet a target.

    Args:
        model (nn.Module): Unfused Ultralytics model; it is left as it was.
        speed_up (float): Target: FLOPs of the dense model over FLOPs of the pruned one, greater than 1.
        method (str): A key of `ultralytics.engine.pruning.methods.METHODS`.
        global_pruning (bool): Rank the channels of all layers together, or remove the same share from every layer.
        round_to (int): Keep a multiple of this many channels per layer, or all of them.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].

    Returns:
        model (nn.Module): Pruned copy in evaluation mode, FP32, on the same device, of stock Ultralytics classes.
        record (dict): What was done, of plain types: the arguments, 'reached', 'gflops' and 'parameters' of both
            models, 'channels' (convolution name to the indices of the 'out' and 'in' channels kept) and 'left_dense'
            (layer name to reason).

    Raises:
        ValueError: If the method is unknown, the model is fused or has no detection head, or the target is out of
            reach.

    Examples:
        >>> from ultralytics import YOLO
        >>> from ultralytics.engine.pruning.prune import prune_model
        >>> pruned, record = prune_model(YOLO("yolov8n.pt").model, speed_up=2.0)
    """
    if method not in METHODS:
        raise ValueError(f"'method={method}' is unknown. Valid methods are {', '.join(METHODS)}.")
    if speed_up <= 1:
        raise ValueError(f"'speed_up={speed_up}' is an invalid value. 'speed_up' must be greater than 1.0.")
    if getattr(model, "is_fused", lambda: False)():
        raise ValueError("the model is fused for inference (Conv without BatchNorm); prune the unfused checkpoint")
    device = next(model.parameters()).device
    pruned = to_prunable(deepcopy(model).cpu().float().eval())
    channels = next(m.in_channels for m in pruned.modules() if isinstance(m, nn.Conv2d))
    side = 2 * int(pruned.stride.max())  # smallest image whose deepest map is not a single pixel; FLOPs scale with area
    example = torch.zeros(1, channels, side, side)

    graph = Graph(pruned, example)
    scores = [METHODS[method].score(group) for group in graph.groups]
    same_width = [t for m in pruned.modules() if isinstance(m, tuple(PRUNABLE_FORMS.values())) for t in m.same_width()]
    coupled = couple(graph.groups, scores, same_width, global_pruning, round_to, max_sparsity)
    counts = solve_budget(coupled, FlopsFormula(pruned, graph.groups, example), speed_up)
    units = [s.topk(count).indices for s, count in zip(scores, counts)]
    kept = channels_to_keep(pruned, graph.groups, units)
    channels_kept = stock_channels(pruned, kept)
    cut(kept)
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
        "left_dense": graph.dense,
        "channels": channels_kept,
    }
    LOGGER.info(
        f"Pruned by {method}: {record['parameters']['dense']:,} to {record['parameters']['pruned']:,} parameters, "
        f"{dense_flops:.2f} to {pruned_flops:.2f} GFLOPs, speed-up {record['reached']:.3f} (target {speed_up})"
    )
    return pruned.to(device), record


def stock_channels(model: nn.Module, kept: Kept) -> dict[str, dict[str, list[int]]]:
    """Name the kept channels of every convolution by the layers of the stock model.

    Args:
        model (nn.Module): Model in prunable form, not yet cut.
        kept (dict[nn.Module, dict[str, torch.Tensor]]): Channels kept by each layer.

    Returns:
        (dict[str, dict[str, list[int]]]): Name in the stock model to indices kept on its 'out' and 'in' axes.
    """
    channels: dict[str, dict[str, list[int]]] = {}
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, tuple(PRUNABLE_FORMS.values()))}
    for name, conv in model.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        offset = 0
        for prefix, block in blocks.items():
            branch, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if name.startswith(f"{prefix}.") and branch in block.STOCK_OUTPUTS:
                layer, part = block.STOCK_OUTPUTS[branch]
                name, offset = f"{prefix}.{layer}.{rest}", part * conv.out_channels
        entry = channels.setdefault(name, {"out": [], "in": kept[conv]["in"].tolist()})
        entry["out"] += (kept[conv]["out"] + offset).tolist()
    return channels
