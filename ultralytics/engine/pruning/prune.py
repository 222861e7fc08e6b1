# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prune a model: dense model in, pruned model of stock Ultralytics classes out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import nn

from ultralytics.cfg.compress.keys import check
from ultralytics.engine.pruning.budget.costs import Cost
from ultralytics.engine.pruning.budget.counted import FlopsCost
from ultralytics.engine.pruning.budget.floor import Floor, find_floor
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.selection import couple_groups, select_units
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget, build_cost, check_limits_known, wanted_ratio
from ultralytics.engine.pruning.checkpoint.finite import check_finite
from ultralytics.engine.pruning.checkpoint.record import Record, dense_yaml, source_of
from ultralytics.engine.pruning.checkpoint.releases import oldest_release
from ultralytics.engine.pruning.checkpoint.whole import kept_whole, stays
from ultralytics.engine.pruning.ranking.methods import find_method
from ultralytics.engine.pruning.ranking.scoring import Losses, score_groups
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.engine.pruning.surgery.history import History
from ultralytics.engine.pruning.surgery.proof import WrongCutError, prove_cut
from ultralytics.engine.pruning.surgery.wrong import WrongBlocks
from ultralytics.nn.conversion.stock_form import is_foreign
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_num_params

DEFAULT_BUDGET = Budget()
CORRECTIONS = 3  # cuts anew where a predicted cost turns out to be another
HOPELESS = 0.2  # share by which cuts miss a target that measured costs say is out of reach
NOTABLE = 0.05  # share of the cost that stays whole in one place, from which on it is logged
LEAST_AIM = 1.001  # a correction may aim lower than its target, but at a smaller network


def prune_model(
    model: nn.Module,
    budget: Budget = DEFAULT_BUDGET,
    *,
    prune_method: str = "group_taylor",
    losses: Losses | None = None,
    iterative_steps: int = 1,
    seed: int = 0,
) -> tuple[nn.Module, Record]:
    """Remove the least important channels of a network until its cost meets a target.

    Args:
        model (nn.Module): Unfused Ultralytics model; it is left as it was.
        budget (Budget): What it may cost, and how channels are taken from its layers; by default half the FLOPs.
        prune_method (str): A key of `METHODS`. 'group_taylor', the default as on the command line, needs losses; 'lamp'
            needs the model alone.
        losses (Callable, optional): For methods that need gradients: takes the model, in train mode with frozen batch
            norms, and yields scalar losses, one per batch (per image for 'group_hessian').
        iterative_steps (int): Cuts on the way to the target, equal in their ratio, with new scores before each. Only
            for methods that need gradients; a cut hardly changes the ranking of the others, so they make one.
        seed (int): Seed of method 'random'.

    Returns:
        model (nn.Module): Pruned copy in evaluation mode, FP32, on the same device, of stock Ultralytics classes.
        record (Record): What was done, for `save_pruned` and `largest_difference`.

    Raises:
        TypeError: If the model is no Ultralytics network, i.e. a `YOLO` object instead of its `.model`, or another
            argument is of the wrong type.
        ValueError: If the method is unknown or lacks losses, a limit names no group, weights or scores are not finite,
            the model is fused, is not in stock form, is random in evaluation or has no head that is supported, or the
            target is out of reach.
        ModuleNotFoundError: If the budget needs a package that is not installed.
        WrongCutError: If the pruned model does not compute what the dense one does with the pruned channels masked.

    Examples:
        >>> from ultralytics import YOLO
        >>> from ultralytics.engine.pruning import Budget, prune_model
        >>> pruned, record = prune_model(YOLO("yolov8n.pt").model, Budget(speed_up=2.0), prune_method="lamp")
    """
    if not isinstance(model, BaseModel):
        hint = ". Pass its network, YOLO(...).model" if isinstance(getattr(model, "model", None), BaseModel) else ""
        raise TypeError(f"'model' must be an Ultralytics network, not a {type(model).__name__}{hint}.")
    if is_foreign(model):
        raise ValueError(
            "'model' cannot be pruned as it is: pass stock_form(model)[0] of ultralytics.nn.conversion.stock_form, a "
            "copy that computes the same, as 'yolo compress' does."
        )
    if not isinstance(budget, Budget):
        raise TypeError(
            f"'budget={budget}' is of invalid type {type(budget).__name__}. 'budget' must be a Budget, i.e. "
            "Budget(speed_up=2.0)."
        )
    check({"iterative_steps": iterative_steps})
    method = find_method(prune_method)
    if losses is not None and not callable(losses):
        raise TypeError(
            f"'losses' is of invalid type {type(losses).__name__}. 'losses' must take a model and yield its losses."
        )
    if method.needs_gradients and losses is None:
        raise ValueError(
            f"'prune_method={prune_method}' needs gradients: pass 'losses', which yields losses of the model, or "
            "choose a method without, i.e. prune_method='lamp'."
        )
    check_finite(model, "the model")
    begin = time.perf_counter()
    cost = build_cost(model, budget)
    steps = iterative_steps if method.needs_gradients else 1
    score = functools.partial(score_groups, method=method, losses=losses, seed=seed)
    pruner = _Pruner(model, cost, score, method.needs_norms)
    pruned, history, reached = pruner.meet(budget, steps)
    dense_gflops = cost.dense_amount if cost.symbol == FlopsCost.symbol else count_flops(model)
    record = Record(
        prune_method=prune_method,
        budget=budget.name,
        precision=budget.precision,
        target=wanted_ratio(cost, budget),
        reached=reached,
        global_pruning=budget.global_pruning,
        round_to=budget.round_to,
        max_sparsity=budget.max_sparsity,
        iterative_steps=steps,
        gflops={"dense": dense_gflops, "pruned": count_flops(pruned)},
        parameters={"dense": get_num_params(model), "pruned": get_num_params(pruned)},
        seconds=time.perf_counter() - begin,
        left_dense=pruner.left_dense,
        held=pruner.floor.held,
        shares=pruner.floor.shares,
        channels=history.channels(),
        yaml=dense_yaml(model),
        source=source_of(model),
        needs_ultralytics=oldest_release(pruned),
        cost=_amounts(cost, budget, reached),
    )
    LOGGER.info(
        f"Pruned by {prune_method}: {record.parameters['dense']:,} to {record.parameters['pruned']:,} parameters, "
        f"{record.gflops['dense']:.2f} to {record.gflops['pruned']:.2f} GFLOPs, speed-up {reached:.3f} in {cost.unit} "
        f"({budget.asked}), in {record.seconds:.1f} s"
    )
    entries = kept_whole({**record.left_dense, **record.held}, record.shares)
    if entries and entries[0].share > NOTABLE:
        LOGGER.info(stays(entries, cost.unit))
    if cost.noise:
        LOGGER.warning(f"The pruned model cannot be said to be faster in {cost.unit}.{cost.doubt}")
    return pruned, record


def _amounts(cost: Cost, budget: Budget, reached: float) -> dict[str, float]:
    """Return the cost of the dense and the pruned model, and the target if it was given as a cost."""
    asked = {} if budget.target is None else {"target": float(budget.target)}
    return {"dense": cost.dense_amount, "pruned": cost.dense_amount / reached, **asked}


class _Pruner:
    """Cuts one dense model, again if the first cut does not cost what was predicted.

    Attributes:
        left_dense (dict[str, str]): Layers whose outputs stay whole, and why.
        floor (Floor): What is left of the model when every group keeps the least that it may.
    """

    floor: Floor

    def __init__(self, model: nn.Module, cost: Cost, score: Callable, needs_norms: bool):
        """Take a model and how to judge its channels.

        Args:
            model (nn.Module): Stock model; it is left as it was.
            cost (Cost): What its cost is counted in.
            score (Callable): Model in prunable form and its groups to the scores of each group's units.
            needs_norms (bool): Groups without a batch norm cannot be scored.
        """
        self.model, self.cost, self.score, self.needs_norms = model, cost, score, needs_norms
        self.left_dense: dict[str, str] = {}
        self._first_scores: list[torch.Tensor] = []  # of the dense model, which corrections start from as well
        self._wrong = WrongBlocks(model)

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
        target = aim = wanted_ratio(self.cost, budget)
        results: list[tuple[nn.Module, History, float]] = []
        while len(results) <= CORRECTIONS:
            try:
                pruned, history = self._cut(budget, aim, steps)
            except OutOfReachError as error:
                nearest = min((abs(result[2] / target - 1) for result in results), default=1.0)
                if results and (nearest < HOPELESS or not self.cost.calibrated):
                    break  # a correction can ask for more than there is to remove
                if not self.cost.recheck():
                    raise OutOfReachError(self.cost.explain(error), error.reachable) from None
                aim = wanted_ratio(self.cost, budget)
                continue
            reached = self.cost.speed_up(pruned)
            target = wanted_ratio(self.cost, budget)  # of an absolute target, whose dense cost was measured again
            results.append((pruned, history, reached))
            if self.cost.tolerance is None or abs(reached / target - 1) <= self.cost.tolerance:
                return results[-1]
            trusted = self.cost.baseline_was_wrong or self.cost.calibrated
            aim = target if trusted else aim * min(max(target / reached, 0.8), 1.25)
            aim = max(aim, LEAST_AIM)
            if len(results) <= CORRECTIONS:
                LOGGER.info(
                    f"Speed-up {reached:.2f} in {self.cost.unit}, target {target:.4g}: cutting anew from the start"
                )
        best = min(results, key=lambda result: abs(result[2] / target - 1))
        LOGGER.warning(
            f"'{budget.asked}' was not met within {self.cost.tolerance:.0%} in {len(results)} cuts: the "
            f"nearest is {best[2]:.2f} in {self.cost.unit}.{self.cost.doubt}"
        )
        return best

    def _cut(self, budget: Budget, ratio: float, steps: int) -> tuple[nn.Module, History]:
        """Cut a copy of the model, again without the layers of blocks in which a cut turns out to be wrong."""
        while True:
            try:
                return self._cut_and_prove(budget, ratio, steps)
            except WrongCutError as error:
                self._wrong.learn(error)
                LOGGER.warning(
                    f"A cut around '{error.layer}' does not compute what the dense model does with the pruned channels "
                    "masked: it stays whole, and the model is cut anew"
                )
            self._first_scores = []  # of more groups

    def _cut_and_prove(self, budget: Budget, ratio: float, steps: int) -> tuple[nn.Module, History]:
        """Cut a copy of the model in some steps, by what the cost is predicted to be, and prove the result."""
        pruned = prunable_copy(self.model)
        history, dense = History(pruned), None
        for step in range(1, steps + 1):
            graph = self._wrong.sound_graph(pruned, self.needs_norms)
            if step == 1:
                check_limits_known(budget.limits, graph)
            formula = self.cost.formula(graph)
            dense = dense or formula.dense
            scores = (step == 1 and self._first_scores) or self.score(pruned, graph.groups)
            if step == 1:
                self._first_scores = scores
            sizes = [history.dense_size(group) for group in graph.groups]
            if step == 1:
                self.floor = find_floor(graph, couple_groups(graph, scores, budget, sizes), formula, budget, dense)
            units = select_units(graph, formula, scores, budget, dense, sizes, ratio, step / steps)
            kept = channels_to_keep(pruned, graph.groups, units)
            history.note(kept)
            cut(pruned, kept)
        self.left_dense = graph.left_dense
        pruned = to_stock(pruned)
        prove_cut(self.model, pruned, history.channels(), graph.has_doubts)
        return pruned, history
