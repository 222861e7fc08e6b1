# SPDX-License-Identifier: AGPL-3.0-or-later
"""Early stopping of cells that others of the same target leave behind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

CELL = "cell"  # key of a trial's configuration: name of the cell
REDUCTION = 3  # one in so many goes on at each rung, as in Ultralytics' tune
SPARSITY = "sparsity/"  # what results of a sparsity training begin with, see `Sparsifier.figures`


class PerTarget(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) among the cells of each target by itself.

    A model that is twice as fast may well be less accurate: cells compete only with those that cost as much.
    """

    def __init__(self, targets: Mapping[str, Hashable], metric: str, epochs: int, grace_period: int):
        """Set up one scheduler for each target.

        Args:
            targets (Mapping[str, Hashable]): Name of a cell to its target.
            metric (str): Name of the accuracy in a result.
            epochs (int): Epochs of a fine-tuning.
            grace_period (int): Epochs that each cell is given.
        """
        super().__init__()
        self.targets = dict(targets)
        own: dict[str, Any] = {"time_attr": "epoch", "metric": metric, "mode": "max", "reduction_factor": REDUCTION}
        own |= {"grace_period": grace_period, "max_t": max(epochs, grace_period)}
        # the report of a cell follows its last epoch
        self.halving = {target: ASHAScheduler(**own, stop_last_trials=False) for target in self.targets.values()}

    def _of(self, trial: Any) -> ASHAScheduler:
        return self.halving[self.targets[trial.config[CELL]]]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if any(key.startswith(SPARSITY) for key in result):
            return self.CONTINUE
        return self._of(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return "\n".join(f"{target}: {halving.debug_string()}" for target, halving in self.halving.items())
