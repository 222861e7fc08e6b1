# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ultralytics' loggers (TensorBoard, W&B, MLflow and others) for the training stages."""

from __future__ import annotations

from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.utils.callbacks import add_integration_callbacks


class LoggedTrainer(StockTrainer):
    """Gives a trainer the loggers that are enabled in Ultralytics' settings; stands first among a class's bases.

    Ultralytics attaches loggers only to classes named `*Trainer*`; the names that we must keep are not.
    """

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event, with the loggers among them from the first event on.

        Args:
            event (str): Name of the event.
        """
        if event == "on_pretrain_routine_start":
            named = LoggedTrainer()
            named.callbacks = self.callbacks
            add_integration_callbacks(named)
        super().run_callbacks(event)
