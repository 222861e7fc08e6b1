# SPDX-License-Identifier: AGPL-3.0-or-later
"""The widely copied recipe's way to prune: torch-pruning's own loop of 200 small steps, each measured anew."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch_pruning as tp
from torch import nn

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.checkpoint.record import Record, dense_yaml, source_of
from ultralytics.engine.pruning.graph.ends import find_ends
from ultralytics.nn.extra_modules.prunable import to_prunable
from ultralytics.utils.torch_utils import get_num_params

STEPS = 200


def prune_by_loop(
    model: nn.Module, speed_up: float, imgsz: int, after_step: Callable[[nn.Module], None] | None = None
) -> tuple[nn.Module, int]:
    """Prune by torch-pruning's global LAMP, a two hundredth of the channels at a time, until the MACs meet a target.

    The loop gets our prunable form of the network, because torch-pruning does not come to an end on the stock one, and
    the same protected layers as we have. Attention stays whole, as its users keep it: torch-pruning 1.6.1 divides by
    zero in the indices of its heads.

    Args:
        model (nn.Module): Stock model; it is left as it was.
        speed_up (float): Dense MACs over pruned MACs.
        imgsz (int): Image size in pixels at which MACs are counted after each step.
        after_step (Callable, optional): Called with the model after each step, i.e. a validation.

    Returns:
        model (nn.Module): Pruned copy in prunable form.
        steps (int): Steps taken.
    """
    pruned = to_prunable(deepcopy(model).float().eval()).requires_grad_(True)
    example = torch.zeros(1, 3, imgsz, imgsz)
    attention = [m for name, m in pruned.named_modules() if ".attn." in name and isinstance(m, nn.Conv2d)]
    pruner = tp.pruner.BasePruner(
        pruned,
        example,
        importance=tp.importance.LAMPImportance(),
        global_pruning=True,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[*find_ends(pruned, example).predictions, *attention],
        # fresh dicts: torch-pruning 1.6.1 writes into its default arguments
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
    )
    target = tp.utils.count_ops_and_params(pruned, example)[0] / speed_up
    for step in range(1, STEPS + 1):
        pruner.step()
        if after_step:
            after_step(pruned)
        if tp.utils.count_ops_and_params(pruned, example)[0] <= target:
            break
    return pruned, step


def record_of_loop(dense: nn.Module, pruned: nn.Module, speed_up: float) -> Record:
    """Return the record with which the loop's result is saved; which channels it kept, the loop does not tell."""
    gflops = {"dense": count_flops(dense), "pruned": count_flops(pruned)}
    return Record(
        prune_method="torch-pruning's loop (LAMP)",
        target=speed_up,
        reached=gflops["dense"] / gflops["pruned"],
        global_pruning=True,
        round_to=1,
        max_sparsity=1.0,
        gflops=gflops,
        parameters={"dense": get_num_params(dense), "pruned": get_num_params(pruned)},
        seconds=0.0,
        left_dense={},
        channels={},
        yaml=dense_yaml(dense),
        source=source_of(dense),
    )
