# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prune a model: dense model in, pruned model of stock Ultralytics classes out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from ultralytics.engine.pruning.budget.costs import COSTS, FlopsCost, LatencyCost
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.selection import Budget, select_units
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import Losses, score_groups
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.engine.pruning.surgery.history import History
from ultralytics.nn.extra_modules import prunable_copy, to_stock
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_num_params

CORRECTIONS = 3  # cuts anew where a predicted cost turns out to be another


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
    budget: str = "flops",
    imgsz: int = 640,
) -> tuple[nn.Module, dict]:
    """Remove the least important channels of a network until its cost meets a target.

    Args:
        model (nn.Module): Unfused Ultralytics model; it is left as it was.
        speed_up (float): Target: cost of the dense model over cost of the pruned one, greater than 1.
        method (str): A key of `ultralytics.engine.pruning.ranking.methods.METHODS`.
        global_pruning (bool): Rank the channels of all layers together, or remove the same share from every layer.
        round_to (int): Keep a multiple of this many channels per layer, or all of them.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].
        limits (Mapping[str, float], optional): The same for single groups, by the name of the convolution that they
            were found from; see `ultralytics.engine.pruning.ranking.sensitivity.limits_from`.
        losses (Callable, optional): For methods that need gradients: takes the model, in train mode with frozen batch
            norms, and yields scalar losses, one per batch (per image for 'group_hessian').
        iterative_steps (int): Cuts on the way to the target, equal in their ratio, with new scores before each. Only
            for methods that need gradients; a cut hardly changes the ranking of the others, so they make one.
        seed (int): Seed of method 'random'.
        budget (str): What the cost is: 'flops', or measured milliseconds of one image, 'onnx' in ONNX Runtime on the
            CPU, 'pytorch' in PyTorch on the model's device.
        imgsz (int): Image size in pixels at which milliseconds are measured.

    Returns:
        model (nn.Module): Pruned copy in evaluation mode, FP32, on the same device, of stock Ultralytics classes.
        record (dict): What was done, of plain types: the arguments, 'reached' (in the budget's unit), 'gflops' and
            'parameters' of both models, 'seconds' (what pruning took, gradients included), 'channels' (convolution name
            to the indices of the 'out' and 'in' channels kept) and 'left_dense' (layer name to reason).

    Raises:
        ValueError: If the method or budget is unknown, a number is out of range, the method lacks losses, its scores
            are not finite, the model is fused or has no head that is supported, or the target is out of reach.
        ModuleNotFoundError: If 'budget' needs a package that is not installed.

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
    for name, value in (("round_to", round_to), ("iterative_steps", iterative_steps)):
        if value < 1:
            raise ValueError(f"'{name}={value}' is an invalid value. '{name}' must be 1 or more.")
    if budget not in COSTS:
        raise ValueError(f"'budget={budget}' is unknown. Valid budgets are {', '.join(COSTS)}.")
    begin = time.perf_counter()
    cost = COSTS[budget](model, imgsz)
    bounds = Budget(speed_up, global_pruning, round_to, max_sparsity, limits or {})
    steps = iterative_steps if METHODS[method].needs_gradients else 1
    score = functools.partial(score_groups, method=METHODS[method], losses=losses, seed=seed)
    pruner = _Pruner(model, cost, score, METHODS[method].needs_norms)
    pruned, history, reached = pruner.meet(bounds, steps)

    dense_flops, pruned_flops = count_flops(model), count_flops(pruned)
    record = {
        "method": method,
        "global_pruning": global_pruning,
        "round_to": round_to,
        "max_sparsity": max_sparsity,
        "budget": budget,
        "target": speed_up,
        "reached": reached,
        "gflops": {"dense": dense_flops, "pruned": pruned_flops},
        "parameters": {"dense": get_num_params(model), "pruned": get_num_params(pruned)},
        "seconds": time.perf_counter() - begin,
        "left_dense": pruner.left_dense,
        "channels": history.channels(),
    }
    LOGGER.info(
        f"Pruned by {method}: {record['parameters']['dense']:,} to {record['parameters']['pruned']:,} parameters, "
        f"{dense_flops:.2f} to {pruned_flops:.2f} GFLOPs, speed-up {reached:.3f} in {cost.unit} (target {speed_up}), "
        f"in {record['seconds']:.1f} s"
    )
    return pruned, record


class _Pruner:
    """Cuts one dense model, again if the first cut does not cost what was predicted.

    Attributes:
        left_dense (dict[str, str]): Layers whose outputs stay whole, and why.
    """

    def __init__(self, model: nn.Module, cost: FlopsCost | LatencyCost, score: Callable, needs_norms: bool):
        """Take a model and how to judge its channels.

        Args:
            model (nn.Module): Stock model; it is left as it was.
            cost (FlopsCost | LatencyCost): What its cost is counted in.
            score (Callable): Model in prunable form and its groups to the scores of each group's units.
            needs_norms (bool): Groups without a batch norm cannot be scored.
        """
        self.model, self.cost, self.score, self.needs_norms = model, cost, score, needs_norms
        self.left_dense: dict[str, str] = {}
        self._first_scores: list[torch.Tensor] = []  # of the dense model, which corrections start from as well

    def meet(self, budget: Budget, steps: int) -> tuple[nn.Module, History, float]:
        """Cut until the cost is what it should be.

        Args:
            budget (Budget): Target and bounds.
            steps (int): Cuts on the way to the target.

        Returns:
            pruned (nn.Module): Pruned copy of stock classes.
            history (History): Which channels it kept.
            reached (float): Dense cost over its cost.
        """
        target, aim = budget.speed_up, budget.speed_up
        results = []
        while len(results) <= CORRECTIONS:
            try:
                pruned, history = self._cut(replace(budget, speed_up=aim), steps)
            except OutOfReachError:
                if results:
                    break  # a correction can ask for more than there is to remove
                if not self.cost.recheck():
                    raise
                continue
            reached = self.cost.speed_up(pruned)
            results.append((pruned, history, reached))
            if self.cost.tolerance is None or abs(reached / target - 1) <= self.cost.tolerance:
                return results[-1]
            aim = target if self.cost.misled else aim * min(max(target / reached, 0.8), 1.25)
            if len(results) <= CORRECTIONS:
                LOGGER.info(f"Speed-up {reached:.2f} in {self.cost.unit}, target {target}: cutting anew from the start")
        best = min(results, key=lambda result: abs(result[2] / target - 1))
        LOGGER.warning(
            f"'speed_up={target}' was not met within {self.cost.tolerance:.0%} in {len(results)} cuts: the "
            f"nearest is {best[2]:.2f} in {self.cost.unit}. Times vary when the machine has other work to do."
        )
        return best

    def _cut(self, budget: Budget, steps: int) -> tuple[nn.Module, History]:
        """Cut a copy of the model in some steps, by what the cost is predicted to be."""
        pruned = prunable_copy(self.model)
        history, example, dense = History(pruned), example_image(pruned), None
        for step in range(1, steps + 1):
            graph = Graph(pruned, example, self.needs_norms)
            formula = self.cost.formula(pruned, graph.groups, example)
            dense = dense or formula.dense
            scores = (step == 1 and self._first_scores) or self.score(pruned, graph.groups)
            if step == 1:
                self._first_scores = scores
            sizes = [history.dense_size(group) for group in graph.groups]
            units = select_units(graph, formula, scores, budget, dense, sizes, step / steps)
            kept = channels_to_keep(pruned, graph.groups, units)
            history.note(kept)
            cut(pruned, kept)
        self.left_dense = graph.dense
        return to_stock(pruned), history
