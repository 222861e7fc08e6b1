# SPDX-License-Identifier: AGPL-3.0-or-later
"""The pruning stage: from the dense or sparse model of a run to the pruned one and the record of the cut."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ultralytics.cfg.compress.compat.training import override_configs
from ultralytics.engine.compress.batches import batch_to_measure, training_images, training_losses
from ultralytics.engine.compress.evaluation import MAIN_METRIC, TASK_METRICS
from ultralytics.engine.compress.memory import within_memory
from ultralytics.engine.compress.sensitivity_map import map_sensitivity
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import Losses
from ultralytics.engine.pruning.ranking.sensitivity import limits_from
from ultralytics.engine.pruning.surgery.recalibration import recalibrate
from ultralytics.engine.pruning.surgery.refit import refit

REFIT_PIXELS = 3_000_000  # of the images to which a pruned model is fitted: more gained nothing, benchmarks/README.md
REFIT_IMAGES = 16  # at least, however large they are


def prune_for_run(run: StockTrainer, model: nn.Module) -> tuple[nn.Module, Record]:
    """Prune a model by the arguments of a run, with its training batches.

    Args:
        run (StockTrainer): A `Compressor`.
        model (nn.Module): Dense or sparse model on the run's device; it is left as it was.

    Returns:
        model (nn.Module): Pruned copy, its batch norms measured again if the run says so.
        record (Record): Record of the cut.
    """
    args = run.prune_args
    method = METHODS[args.prune_method]
    batch = batch_to_measure(run.args)
    limits = within_memory(partial(_limits, run, model), batch)
    fixed = method.per_sample or not method.needs_gradients  # a batch that cannot be halved
    pruned, record = within_memory(partial(_cut, run, model, limits), 1 if fixed else batch)
    if args.recalibrate:
        within_memory(lambda batch: recalibrate(pruned, training_images(run, pruned, batch)), max(batch, 2))
    if args.refit:
        images = max(REFIT_PIXELS // run.args.imgsz**2, REFIT_IMAGES)
        record = within_memory(partial(_refit, run, model, pruned, record), images)
    return pruned, replace(record, recalibrated=args.recalibrate, run=str(run.save_dir))


def _refit(run: StockTrainer, dense: nn.Module, pruned: nn.Module, record: Record, images: int) -> Record:
    """Fit a pruned model to the dense one on so many training images, or all if the data set has fewer."""
    batch = min(images, batch_to_measure(run.args))
    batches = training_images(run, pruned, batch, "Dense outputs", images)
    with override_configs(run.args, {"multi_scale": 0.0, "rect": False}):  # images of one size
        return refit(dense, pruned, record, torch.cat(list(batches))[:images])


def _cut(run: StockTrainer, model: nn.Module, limits: dict[str, float], batch: int) -> tuple[nn.Module, Record]:
    return prune_model(
        model,
        Budget.from_args(run.all_args, limits),
        prune_method=run.prune_args.prune_method,
        losses=_losses(run, batch),
        iterative_steps=run.prune_args.iterative_steps,
        seed=run.args.seed,
    )


def _losses(run: StockTrainer, batch: int) -> Losses | None:
    """Return the losses of a method that needs gradients."""
    method = METHODS[run.prune_args.prune_method]
    return training_losses(run, 1 if method.per_sample else batch) if method.needs_gradients else None


def _limits(run: StockTrainer, model: nn.Module, batch: int) -> dict[str, float]:
    """Map the sensitivity, if asked for, and return how much each group may lose by it."""
    largest_drop = run.prune_args.sensitivity_drop
    if not run.prune_args.sensitivity and largest_drop is None:
        return {}
    run.stages.begin("sensitivity", run.save_dir)
    metric = MAIN_METRIC[run.args.task]
    key = TASK_METRICS[run.args.task][metric]
    rows = map_sensitivity(run, model, metric, key, _losses(run, batch), batch, run.known_sensitivity)
    return {} if largest_drop is None else limits_from(rows, largest_drop)
