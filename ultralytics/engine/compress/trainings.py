# SPDX-License-Identifier: AGPL-3.0-or-later
"""The stages of a run that train: each is a stock trainer, in a folder beside the run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.cfg.compress.compat.keys import NO_TEACHER
from ultralytics.cfg.compress.compat.quantization import NOT_QUANTISED
from ultralytics.engine.compress.across import across_nodes
from ultralytics.engine.compress.arguments import PruneArguments
from ultralytics.engine.compress.checks.quantization import QAT
from ultralytics.engine.compress.checks.sparsity import sl_hyperparameters
from ultralytics.engine.compress.evaluation import MAIN_METRIC, validated
from ultralytics.engine.compress.finetuner import report_on_finetuning
from ultralytics.engine.compress.recovery import training_ended
from ultralytics.engine.compress.runs import folder_of
from ultralytics.engine.compress.stages import BEST, LAST, Stages
from ultralytics.engine.pruning.files import sweep_temporaries
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, colorstr

STOCK_STAGES = ("base", "dense")  # which stock trainers do


class Trainings(PruneArguments):
    """Trains what a compress run needs trained, each stage once.

    Attributes:
        trainer (type): The task's stock trainer, for the base training of a YAML model.
        sparsifier (type): The task's `Sparsifier`.
        finetuner (type): The task's `Finetuner`.
        stages (Stages): Which stages are complete.
        metrics (dict[str, dict[str, float]]): Metrics of rows of the report that are known beforehand.
        changed (dict[str, Any]): Arguments that a resumed run has been given anew.
    """

    trainer: type
    sparsifier: type
    finetuner: type
    stages: Stages
    metrics: dict[str, dict[str, float]]
    changed: dict[str, Any]

    def train_on(self, dense: Path) -> Path:
        """Return the dense checkpoint after `dense_epochs` more of its training, or as it was if it lost by them."""
        args = {**self.training_args("dense", str(dense)), "epochs": self.prune_args.dense_epochs, "time": None}
        trained = self.run_training("dense", self.trainer, args)
        if chosen := self.stages.result("choose"):
            return chosen
        main = MAIN_METRIC[self.args.task]
        before, after = (
            validated(name, file, self.args, self.device, self.save_dir)[1]
            for name, file in (("dense", dense), ("further trained", trained))
        )
        better = after[main] >= before[main]
        chosen, self.metrics["dense"] = (trained, after) if better else (dense, before)
        self.stages.complete("choose", chosen)
        change = f"{main} {before[main]:.3f} before, {after[main]:.3f} after {self.prune_args.dense_epochs} epochs more"
        if better:
            LOGGER.info(f"{colorstr('compress:')} {change}: the dense model is now {chosen}")
        else:
            LOGGER.warning(f"{colorstr('compress:')} {change}: the dense model stays {chosen}")
        return chosen

    def sparsify(self, dense: Path) -> Path:
        """Return the weights that a sparsity training of the dense model has left, or those that stand for it."""
        if self.prune_args.sl_model:
            return Path(self.prune_args.sl_model)
        own = {"epochs": self.prune_args.sl_epochs, "time": None, **NO_TEACHER}  # as those of STOCK_STAGES
        args = {**self.training_args("sparsify", str(dense)), **sl_hyperparameters(self.prune_args.sl_hyp), **own}
        return self.run_training("sparsify", self.sparsifier, args)

    def quantise(self, tuned: Path) -> Path:
        """Return the weights that a quantization-aware training of the fine-tuned ones leaves, in its own folder."""
        before = tuned.parents[1]

        def trainer(*args: Any) -> Any:
            run = self.finetuner(*args)
            run.before = before
            return run

        epochs = self.prune_args.qat_epochs
        own = {"epochs": epochs, "qat_epochs": epochs, "time": None, "quantize": QAT}
        best = self.run_training("qat", trainer, {**self.training_args("qat", str(tuned)), **own})
        if not (best.parents[1] / REPORT_FILE).exists():
            report_on_finetuning(best, self.args, self.device, self.on_plot, before)
        return best

    def run_training(self, stage: str, trainer: Callable, args: dict[str, Any]) -> Path:
        """Run a training stage, or the rest of it, and return its best weights.

        Args:
            stage (str): Name of the stage.
            trainer (Callable): Makes its trainer, as the class of one does; stock stages have their own.
            args (dict[str, Any]): See `training_args`.
        """
        if result := self.stages.result(stage):
            LOGGER.info(f"{colorstr('compress:')} stage '{stage}' is complete: {result}")
            return result
        folder = self.stages.folder(stage)
        if folder is None:
            folder = folder_of(args)
            self.stages.begin(stage, folder)
        sweep_temporaries(folder)
        last = self.stages.last(stage)
        if stage in STOCK_STAGES:
            trainer = across_nodes(self.trainer)
        own = {"save_dir": str(folder)}
        cfg = {**DEFAULT_CFG_DICT, **own}
        if last is None:  # not begun, or stopped before its first epoch ended
            trainer(cfg, {**args, **own}, self.callbacks).train()
        elif not training_ended(last):
            found = {"data": args["data"]}  # which stock trainers take where the checkpoint's is gone
            trainer(cfg, {"resume": str(last), **own, **found, **self.changed}, self.callbacks).train()
        weights = folder / BEST if (folder / BEST).exists() else folder / LAST
        self.stages.complete(stage, weights)
        return weights

    def training_args(self, stage: str, model: str) -> dict[str, Any]:
        """Return the arguments of a training stage: this run's, with a folder beside this run's.

        Args:
            stage (str): Name of the stage.
            model (str): YAML or checkpoint that is trained.
        """
        place = {"project": str(self.save_dir.parent), "name": stage_name(self.save_dir.name, stage)}
        own = {"model": model, "mode": "train", **place, "resume": False}
        if stage in STOCK_STAGES:
            own |= NO_TEACHER  # which belongs to the fine-tuning
        else:
            own |= {**vars(self.prune_args), "deploy": None, "qat_epochs": 0}  # stages of this run
        if stage != "base":
            own["pretrained"] = True  # the weights that the stage before it has left
        if stage != "finetune":  # a network whose activations are quantised has no channels to rank or cut
            own |= NOT_QUANTISED
        return {**{k: v for k, v in vars(self.args).items() if k != "save_dir"}, **own}


def stage_name(run: str, stage: str) -> str:
    """Return the name of a training stage's folder.

    Args:
        run (str): Name of the run's.
        stage (str): Name of the stage.
    """
    prefix, found, number = run.rpartition("-prune")
    return f"{prefix}-{stage}{number}" if found else f"{run}-{stage}"
