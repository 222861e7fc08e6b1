# SPDX-License-Identifier: AGPL-3.0-or-later
"""How often the trainings of a pruned network, or of one about to be, step the optimizer."""

from __future__ import annotations

from typing import Any

from ultralytics.cfg.compress.compat.training import BUILDS_PIPELINE
from ultralytics.engine.compress.loggers import LoggedTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER

SHORT_TRAINING = 10_000  # batches, up to which Ultralytics' optimizer=auto takes AdamW


class OftenTrainer(LoggedTrainer):
    """Has a short training step with every batch; stands before a task's stock trainer among the bases of a class.

    A pruned network has far to go, and so have the units that a sparsity training makes small: the 64 images that
    Ultralytics gathers for each step leave a small data set with too few steps to get there.
    """

    accumulate: int

    def _setup_train(self, *args: Any) -> None:
        """Set up as the stock trainer does; older ones build their pipeline here."""
        super()._setup_train(*args)
        if not BUILDS_PIPELINE:
            self.step_often()

    def _build_train_pipeline(self) -> None:
        """Build the stock pipeline, and have it step often enough."""
        super()._build_train_pipeline()
        self.step_often()

    def step_often(self) -> None:
        """Let a short training, whose 'nbs' is the default, step the optimizer with every batch."""
        batches = len(self.train_loader) * self.epochs
        if self.args.nbs == DEFAULT_CFG.nbs and self.accumulate > 1 and batches <= SHORT_TRAINING:
            self.args.nbs, self.accumulate = self.batch_size, 1
            for group in self.optimizer.param_groups:  # which were scaled for the images of the accumulated step
                if group["weight_decay"]:
                    group["weight_decay"] = self.args.weight_decay
            LOGGER.info(f"{batches} batches in all: an optimizer step after each, nbs={self.batch_size}")
