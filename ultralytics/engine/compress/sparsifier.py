# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sparsity training: a stock training run whose optimizer steps carry a regulariser's gradient as well."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.compress.compat.devices import unwrap_model
from ultralytics.cfg.compress.compat.keys import teacher_of
from ultralytics.cfg.compress.compat.modules import forget_loss
from ultralytics.engine.compress.arguments import PruneArguments
from ultralytics.engine.compress.batches import batch_to_measure, training_losses
from ultralytics.engine.compress.checks.models import check_model_name, is_yaml, load_named, refuse_foreign
from ultralytics.engine.compress.checks.quantization import QAT
from ultralytics.engine.compress.checks.sparsity import shapes
from ultralytics.engine.compress.checks.training import check_freeze, check_resume_value
from ultralytics.engine.compress.memory import within_memory
from ultralytics.engine.compress.recovery import check_resumed
from ultralytics.engine.compress.sparsity_strength import (
    Strength,
    advice,
    decay_at,
    needed_strength,
    plan,
    strength_for,
)
from ultralytics.engine.compress.stepping import OftenTrainer
from ultralytics.engine.pruning.budget.ahead import check_target, proven_graph
from ultralytics.engine.pruning.budget.costs import COUNTED
from ultralytics.engine.pruning.budget.selection import select_units
from ultralytics.engine.pruning.budget.target import Budget, build_cost, wanted_ratio
from ultralytics.engine.pruning.checkpoint.classes import class_count
from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import Losses, score_groups
from ultralytics.engine.pruning.report.sparsity_plot import DISTRIBUTION_FILE, append_distribution, plot_sparsity
from ultralytics.engine.pruning.sparsity.regularisers import Regulariser
from ultralytics.engine.pruning.sparsity.units import Units
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import torch_distributed_zero_first

DOOMED_FILE = "doomed.pt"  # what a method that trains towards a target has chosen to remove
SHARE_STEP = 0.05  # sparsity is compared in steps of this
SHARE_WORTH = 1000.0  # fitness that a step of sparsity outweighs, whatever the task measures


class Sparsifier(PruneArguments, OftenTrainer):
    """Adds a sparsity regulariser to a task's stock trainer, before which it stands among the bases of a class.

    Which epoch becomes best.pt: the sparsest, and among equally sparse ones the fittest. Sparsity is the share of units
    whose scale is below the regulariser's `SMALL`, rounded down to a step of 5%. Early stopping follows the same order,
    so it waits as long as the model still becomes sparser.

    Attributes:
        regulariser (Regulariser): What is added to the gradients.
    """

    best_fitness: float | None
    _planned: int | None = None  # epochs for which a strength was found
    _needed: Strength

    def prepare(self, cfg: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Check what 'resume' names.

        Args:
            cfg (dict[str, Any]): Configuration.
            overrides (dict[str, Any]): Its overrides.

        Returns:
            (dict[str, Any]): Overrides as they are.
        """
        resume = {**cfg, **overrides}.get("resume")
        check_resume_value(resume, "a last.pt")
        if isinstance(resume, (str, Path)):
            check_resumed(resume)
        return overrides

    def check_run(self) -> None:
        """Check the arguments of the run before there is a folder.

        Raises:
            ValueError: If the method has no regulariser, the run distils or quantises, the model is not valid, or the
                target of a method that trains towards it is out of reach.
        """
        if METHODS[self.prune_args.prune_method].regulariser is None:
            names = ", ".join(name for name, method in METHODS.items() if method.regulariser)
            raise ValueError(
                f"'prune_method={self.prune_args.prune_method}' has no sparsity training. Methods that have: {names}."
            )
        if teacher := teacher_of(self.args):
            raise ValueError(
                f"'distill_model={teacher}' is not supported in sparsity training. Leave it out here, "
                "and distil in the fine-tuning."
            )
        if vars(self.args).get("quantize") == QAT:
            raise ValueError(
                f"'quantize={QAT}' is not supported in sparsity training. Leave it out here, and quantise in the "
                "fine-tuning."
            )
        check_model_name(self.args.model)
        dense = None if self.resume or is_yaml(self.args.model) else load_named("model", self.args.model)
        if dense is not None:
            refuse_foreign("model", self.args.model)
        super().check_run()
        method = METHODS[self.prune_args.prune_method]
        if dense is not None:
            check_freeze(self.args.freeze, dense)
            if method.trains_towards_target and self.prune_args.budget in COUNTED:
                check_target(dense, Budget.from_args(self.all_args), method.needs_norms)

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """Return the stock trainer's model of the YAML, or the given one where its YAML describes another.

        A converted model may have widths or kernels that its YAML does not say.
        """
        model = super().get_model(cfg, weights, verbose)
        if weights is None or class_count(weights) != self.data.get("nc") or shapes(weights) == shapes(model):
            return model
        model = deepcopy(weights).float().requires_grad_(True)
        forget_loss(model)
        return model

    def train(self) -> None:
        """Train as the stock trainer does, with the folder to itself."""
        with self.folder_held():
            super().train()

    @property
    def strength(self) -> float:
        """Return the regulariser's strength at this moment."""
        reg, delta_reg = strength_for(self.prune_args, self._needs())
        if self.regulariser.GROWS:
            return reg + delta_reg * self.ema.updates
        return reg * decay_at(self.epoch, self.epochs, self.prune_args)

    def _needs(self) -> Strength:
        """Return what the steps of the training need, found once for as many epochs."""
        if self.epochs != self._planned:  # 'time' sets them anew after each epoch
            self._planned, self._needed = self.epochs, needed_strength(self)
        return self._needed

    def _setup_train(self, *args: Any) -> None:
        """Set up as the stock trainer does, then hook the regulariser into the optimizer."""
        super()._setup_train(*args)
        with torch_distributed_zero_first(RANK):  # the first process chooses the units, the others read them
            if not self.resume and RANK in {-1, 0}:
                for file in (DISTRIBUTION_FILE, DOOMED_FILE):  # as the stock trainer does with results.csv
                    (self.save_dir / file).unlink(missing_ok=True)
            self.regulariser = self._build_regulariser(self.save_dir / DOOMED_FILE)
        # before every step the gradients are complete, unscaled and clipped: the pull is what `reg` says
        self.optimizer.register_step_pre_hook(self._add_gradients)
        LOGGER.info(
            f"{colorstr('sparsity:')} {type(self.regulariser).__name__} on {len(self.regulariser.units):,} units for "
            f"prune_method={self.prune_args.prune_method}"
        )
        self._log_strength()

    def _log_strength(self) -> None:
        """Say what the strength is that no key has set."""
        key = "delta_reg" if self.regulariser.GROWS else "reg"
        if vars(self.prune_args)[key] is None:
            value = self._needs()._asdict()[key]
            steps = plan(self, self.epochs).updates
            LOGGER.info(f"{colorstr('sparsity:')} {key}={value:.2g} for some {steps:,.0f} optimizer steps")

    def _build_regulariser(self, file: Path) -> Regulariser:
        """Build the regulariser; units that a target removes are chosen once in a run, before its first epoch."""
        model, args = unwrap_model(self.model), self.all_args
        if file.exists():
            return build_regulariser(model, args, load_doomed(file, self.device))
        regulariser = within_memory(
            lambda images: build_regulariser(model, args, losses=training_losses(self, images)),
            batch_to_measure(self.args),
        )
        if regulariser.doomed is not None:
            with written_whole(file) as temporary:
                torch.save(regulariser.doomed.cpu(), temporary)
        return regulariser

    def _add_gradients(self, *_: Any) -> None:
        self.regulariser.add_gradients(unwrap_model(self.model), self.strength)

    def figures(self) -> dict[str, float]:
        """Return how sparse the EMA model is, for results.csv and the loggers."""
        scales = self.regulariser.scales(self.ema.ema)
        quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], device=scales.device)
        percentiles = scales.quantile(quantiles).tolist()
        return {
            "sparsity/reg": self.strength,
            "sparsity/share_small": (scales < self.regulariser.SMALL).float().mean().item(),
            **{f"sparsity/p{100 * q:.0f}": value for q, value in zip(quantiles.tolist(), percentiles)},
        }

    def validate(self) -> tuple[dict | None, float | None]:
        """Validate as the stock trainer does, with sparsity before fitness.

        Returns:
            metrics (dict | None): Validation metrics and `figures`.
            fitness (float | None): Steps of sparsity, each worth more than any fitness, plus the fitness.
        """
        best = self.best_fitness
        metrics, fitness = super().validate()
        if metrics is None:
            return None, None
        figures = self.figures()
        ranked = SHARE_WORTH * (figures["sparsity/share_small"] // SHARE_STEP) + fitness
        self.best_fitness = ranked if best is None else max(best, ranked)
        return {**metrics, **figures}, ranked

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Write results.csv with the columns of `figures`, and the distribution behind them."""
        figures = self.figures()  # always the last columns, whether or not `validate` has put them among the metrics
        super().save_metrics({k: v for k, v in metrics.items() if k not in figures} | figures)
        scales = self.regulariser.scales(self.ema.ema)
        append_distribution(self.save_dir / DISTRIBUTION_FILE, self.epoch + 1, scales)

    def final_eval(self) -> None:
        """Evaluate as the stock trainer does, and say what to change if the training has made nothing small.

        Raises:
            ValueError: If the training has diverged, which its checkpoints do not show: Ultralytics saves zeros for
                weights that are no numbers.
        """
        if not self.regulariser.scales(self.ema.ema).isfinite().all():
            if RANK in {-1, 0}:
                for file in (self.best, self.last):  # or a resumed run would take the zeros for what was trained
                    file.unlink(missing_ok=True)
            raise ValueError(
                "the weights of the sparsity training are not finite: it has diverged. Train it again, without "
                "'resume', with a lower 'reg' or 'lr0'."
            )
        super().final_eval()
        if RANK in {-1, 0}:
            share = self.figures()["sparsity/share_small"]
            doomed = self.regulariser.doomed
            if share < SHARE_STEP and (doomed is None or share < doomed.float().mean() / 2):
                LOGGER.warning(f"{colorstr('sparsity:')} {advice(self, share)}")

    def plot_metrics(self) -> None:
        """Plot as the stock trainer does, and the distribution of scales over the epochs."""
        super().plot_metrics()
        plot_sparsity(
            self.save_dir / DISTRIBUTION_FILE,
            self.csv,
            f"{self.prune_args.prune_method}: {self.regulariser.NAME}",
            self.regulariser.SMALL,
            on_plot=self.on_plot,
        )


def load_doomed(file: Path, device: torch.device) -> torch.Tensor:
    """Read which units the target of a run removes.

    Args:
        file (Path): What an earlier start of the run has written.
        device (torch.device): Device of the model.

    Returns:
        (torch.Tensor): True for units to remove, shape (units,).

    Raises:
        ValueError: If it is damaged.
    """
    remedy = "Delete it with the folder that it is in, and start the sparsity training anew."
    try:
        doomed = torch.load(file, map_location=device, weights_only=True)
    except (EOFError, IndexError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError) as error:
        raise ValueError(f"'{file}' cannot be read ({type(error).__name__}). {remedy}") from error
    if not isinstance(doomed, torch.Tensor) or doomed.dtype != torch.bool or doomed.ndim != 1:
        raise ValueError(f"'{file}' is damaged: it holds no list of units. {remedy}")
    return doomed


def build_regulariser(
    model: nn.Module, args: SimpleNamespace, doomed: torch.Tensor | None = None, losses: Losses | None = None
) -> Regulariser:
    """Return the regulariser of a method for a model about to be trained.

    Args:
        model (nn.Module): Stock model.
        args (SimpleNamespace): Arguments of the run; 'prune_method' and, for a method that trains towards a target,
            the keys of the budget are read.
        doomed (torch.Tensor, optional): True for units that the target removes, shape (units,), if they have been
            chosen before.
        losses (Callable, optional): Yields losses of the model, for a method that chooses units by gradients.

    Returns:
        (Regulariser): Regulariser on the model's device.

    Raises:
        ValueError: If a target is needed and out of reach, or `doomed` is of another model.
    """
    method = METHODS[args.prune_method]
    assert method.regulariser is not None  # a Sparsifier takes no other method
    graph = proven_graph(model, method.needs_norms)
    units = Units(graph)
    if method.chosen_by and doomed is None:
        budget = Budget.from_args(args)
        cost = build_cost(model, budget)
        formula, ratio = cost.formula(graph), wanted_ratio(cost, budget)
        scores = score_groups(graph.model, graph.groups, METHODS[method.chosen_by], losses)
        doomed = units.removed(select_units(graph, formula, scores, budget, formula.dense, graph.sizes, ratio))
    if doomed is not None and len(doomed) != len(units):
        raise ValueError(
            f"'{DOOMED_FILE}' lists {len(doomed)} units and the model has {len(units)}: it belongs to another model. "
            "Start the sparsity training anew."
        )
    return method.regulariser(units, doomed)
