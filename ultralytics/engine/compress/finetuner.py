# SPDX-License-Identifier: AGPL-3.0-or-later
"""Fine-tune a pruned checkpoint, for every task alike: a stock training that keeps the architecture and reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint, student_of
from ultralytics.cfg.compress.compat.devices import unset_deterministic, unwrap_model
from ultralytics.cfg.compress.compat.keys import teacher_of
from ultralytics.engine.compress.arguments import PruneArguments
from ultralytics.engine.compress.checks.deployment import check_deployment
from ultralytics.engine.compress.checks.models import check_model, check_teacher, load_named
from ultralytics.engine.compress.checks.quantization import QAT, check_quantization
from ultralytics.engine.compress.checks.training import check_distillation, check_freeze, check_resume_value
from ultralytics.engine.compress.evaluation import MAIN_METRIC, TASK_METRICS, read_curve, report_on
from ultralytics.engine.compress.forecast import forecast_of, halfway
from ultralytics.engine.compress.lesson import lighten
from ultralytics.engine.compress.recovery import check_resumed, read_checkpoint, training_ended
from ultralytics.engine.compress.runs import absolute, find_run, moved, moved_teacher
from ultralytics.engine.compress.stages import BEST, LAST
from ultralytics.engine.compress.stepping import OftenTrainer
from ultralytics.engine.compress.teacher import Teaching, find_teacher, teaching_of
from ultralytics.engine.pruning.checkpoint.classes import class_count
from ultralytics.engine.pruning.checkpoint.marks import RECORD, is_pruned
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.log import lines_counted
from ultralytics.engine.pruning.report.beside import advice_of, better_beside
from ultralytics.engine.pruning.report.build import REPORT_FILE, save_report
from ultralytics.engine.pruning.report.deployed import QUANTISED, TUNED
from ultralytics.engine.pruning.report.read import read_report
from ultralytics.utils import DEFAULT_CFG_DICT, LOCAL_RANK, LOGGER, RANK, colorstr

QAT_LR = 0.01  # of the learning rate, in a quantization-aware training after the fine-tuning (arXiv 2004.09602)


class Finetuner(PruneArguments, OftenTrainer):
    """Trains a pruned checkpoint and reports; stands before a task's stock trainer among the bases of a class.

    Attributes:
        task (str): Task of the stock trainer.
        teaching (Teaching, optional): How the teacher teaches, if there is one.
        before (Path, optional): Folder of the fine-tuning that this one, a quantization-aware one, goes on from.
    """

    task: str
    teaching: Teaching | None = None
    before: Path | None = None

    def prepare(self, cfg: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Check that the model is a pruned one, and find its teacher or the run to resume.

        Args:
            cfg (dict[str, Any]): Configuration.
            overrides (dict[str, Any]): Its overrides; 'resume=True' continues the newest run of this 'project' and
                'name', if there is one.

        Returns:
            (dict[str, Any]): Overrides without defaults, which would take the place of a resumed run's own.

        Raises:
            ValueError: If 'model' is not a pruned checkpoint.
            FileNotFoundError: If 'model' or 'distill_model' does not exist.
        """
        args = {**DEFAULT_CFG_DICT, **cfg, **overrides, "task": self.task}
        check_resume_value(args["resume"], "a last.pt")
        check_distillation(args.get("distill_model"), self.prune_args.distill)
        if self.prune_args.qat_epochs and args.get("quantize") != QAT and not args["resume"]:
            raise ValueError(
                f"'qat_epochs={self.prune_args.qat_epochs}' is a stage of 'yolo compress' and YOLO(...).compress. Give "
                "'quantize=8' to a fine-tuning by itself."
            )
        if isinstance(args["resume"], (str, Path)):
            check_resumed(args["resume"])
        if args["resume"] is True:
            overrides |= run_to_resume(args)
        if not overrides.get("resume", args["resume"]):
            model = args["model"]
            _, pruned = check_model(model, self.task, self.gives_texts)
            if pruned is None or not is_pruned(pruned):
                raise ValueError(
                    f"'model={model}' is not a pruned checkpoint. Prune it first with 'yolo compress', or train it as "
                    "it is with 'yolo train'."
                )
            Record.of(pruned)
            check_freeze(args["freeze"], pruned)
            if teacher := args.get("distill_model"):
                check_teacher(teacher, pruned, self.task)
            elif self.prune_args.distill and (teacher := find_teacher(pruned)):
                overrides["distill_model"] = teacher
        return overrides

    def check_run(self) -> None:
        """Find the teacher of a run that was moved, and check the arguments of the run."""
        if self.resume and (teacher := teacher_of(self.args)):
            self.args.distill_model = moved_teacher(teacher, Path(self.args.resume).parents[1])
        super().check_run()
        check_quantization(vars(self.args))
        check_deployment(self.prune_args.deploy, self.device)

    def _setup_train(self, *args: Any) -> None:
        """Set up as the stock trainer does, without the report of another run in the same folder."""
        with lines_counted("Freezing layer 'teacher_model.", "the teacher's parameters are frozen, {} in all"):
            super()._setup_train(*args)
        if teacher := teacher_of(self.args):
            self.teaching = self.decide_teaching(teacher)
            is_light = lighten(unwrap_model(self.model))
            if RANK in {-1, 0}:
                LOGGER.info(f"{colorstr('finetune:')} {self.teaching.reason}")
                if not is_light:
                    LOGGER.info(f"{colorstr('finetune:')} it is run whole, also what the distillation does not read")
        if not self.resume:
            (self.save_dir / REPORT_FILE).unlink(missing_ok=True)

    def decide_teaching(self, teacher: str) -> Teaching:
        """Return how the teacher teaches, see `teaching_of`; the same in every process and after a resume."""
        return teaching_of(teacher, unwrap_model(self.model).student_model, self.task, self.epochs)

    def _model_train(self) -> None:
        """Set the model to training as the stock trainer does in every epoch, with the epoch's share of teaching."""
        super()._model_train()
        if self.teaching:
            pair = unwrap_model(self.model)
            pair.dis = self.args.dis * self.teaching.share(self.epoch / self.epochs)
            pair.training = pair.dis > 0  # else Ultralytics' loss is the student's alone, and the teacher is not run
        if self.epoch and self.epoch == halfway(self.epochs) and RANK in {-1, 0} and self.before is None:
            self.tell_forecast()

    def tell_forecast(self) -> None:
        """Log what the fine-tuning will come to, if the run that has pruned the model is there."""
        model = unwrap_model(self.model)
        run = Path(Record.of(student_of(model)).run)
        file = moved(run / REPORT_FILE, self.save_dir)
        if not file.is_file():
            return
        try:
            earlier, metric = read_report(file, [*TASK_METRICS[self.args.task]]), MAIN_METRIC[self.args.task]
        except ValueError as error:  # the training goes on
            LOGGER.warning(f"no forecast: {error}")
            return
        if not is_alike(earlier, self.args):
            return
        dense = earlier["rows"]["dense"]
        curve = read_curve(self.csv, self.args.task, self.args.val)
        if found := forecast_of(curve, self.epochs, dense, self.args.task, file.parent):
            better = better_beside(earlier, file.parent, "pruned", found.high)
            advice = f". Or {advice_of(better, metric)}" if better else ""
            LOGGER.info(f"{colorstr('finetune:')} {found.text(metric, dense[metric])}{advice}")

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build the stock optimizer; for quantization-aware training after the fine-tuning, with a lower learning rate.

        The one of a fine-tuning takes the model away from where that one has ended.
        """
        optimizer = super().build_optimizer(*args, **kwargs)
        if self.prune_args.qat_epochs:
            self.args.warmup_bias_lr = 0.0  # or the warm-up takes biases from Ultralytics' 0.1 down to so low a rate
            for group in optimizer.param_groups:
                group["lr"] *= QAT_LR
        return optimizer

    def train(self) -> None:
        """Train as the stock trainer does, unless a run to resume has nothing left to train, then write the report."""
        with self.folder_held():
            if self.resume and training_ended(Path(self.args.model)):
                LOGGER.info(f"{colorstr('finetune:')} training is complete: {self.save_dir}")
                unset_deterministic()  # which the constructor has set, and a training sets back
            else:
                super().train()
            if LOCAL_RANK == -1:  # the process that the user started; DDP workers are its children
                self.report()
                if self.prune_args.deploy:
                    from ultralytics.engine.compress.deploy.stage import deploy  # which older releases cannot import

                    deploy(self, self.best if self.best.exists() else self.last)

    def report(self) -> None:
        """Compare the fine-tuned model with the dense and the pruned one of the compress run that it comes from."""
        best = self.best if self.best.exists() else self.last
        report_on_finetuning(best, self.args, self.device, self.on_plot, self.before)


def run_to_resume(args: dict[str, Any]) -> dict[str, Any]:
    """Return what continues the newest run of this 'project' and 'name'.

    Args:
        args (dict[str, Any]): Arguments of the run.

    Returns:
        (dict[str, Any]): 'resume' and 'save_dir', which Ultralytics drops from a checkpoint when a training has ended;
            'resume' alone and False if there is no such run, or it trained another cut than 'model', which is logged;
            with 'save_dir' if no epoch of it has ended, so that it begins anew in its folder.
    """
    run = find_run(args, "args.yaml")
    if run is None:
        return {"resume": False}
    found = read_checkpoint(run / LAST) or read_checkpoint(run / BEST)
    if found is None:
        return {"resume": False, "save_dir": str(run)}
    if args["model"] and str(args["model"]).endswith(".pt"):
        trained = student_of(found[0])
        if getattr(trained, RECORD, None) != getattr(load_named("model", args["model"]), RECORD, None):
            LOGGER.warning(f"resume: {run} is no training of 'model={args['model']}', which begins anew")
            return {"resume": False}
    return {"resume": str(run / LAST), "save_dir": str(run)}


def is_alike(report: dict[str, Any], args: SimpleNamespace) -> bool:
    """Return True if the metrics of a report were measured on a run's own data and size of images."""
    return absolute(report.get("data")) == absolute(args.data) and report.get("imgsz") == args.imgsz


def report_on_finetuning(
    weights: Path,
    args: SimpleNamespace,
    device: torch.device,
    on_plot: Callable[[Path], None],
    before: Path | None = None,
) -> None:
    """Write the report of a fine-tuning, unless what it would compare with is gone, which is logged.

    Args:
        weights (Path): Fine-tuned checkpoint in the 'weights' folder of its run, where the report goes.
        args (SimpleNamespace): Arguments of the run.
        device (torch.device): Where to validate and to measure latency.
        on_plot (Callable): Is told the path of each picture.
        before (Path, optional): Folder of the run that it goes on from; by default the one that has pruned it.
    """
    folder = weights.parents[1]
    file = (before or Path(Record.of(load_checkpoint(weights)[0]).run)) / REPORT_FILE
    file = moved(file, folder)
    if not file.is_file():
        LOGGER.warning(f"no report: what it would compare with is gone: {file}")
        return
    try:
        earlier = read_report(file, [*TASK_METRICS[args.task]])
    except ValueError as error:  # the training has ended well, and the record may name any folder
        LOGGER.warning(f"no report: {error}")
        return
    rows = earlier["rows"]
    files = {name: moved(row["weights"], file.parent) for name, row in rows.items()}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        LOGGER.warning(f"no report: what it would compare with is gone: {', '.join(missing)}")
        return
    metrics = {name: {k: row[k] for k in TASK_METRICS[args.task]} for name, row in rows.items()}
    if not is_alike(earlier, args):
        dense, tuned = (load_checkpoint(file)[0] for file in (files["dense"], weights))
        if class_count(dense) != class_count(tuned):
            LOGGER.warning(f"no report: the dense model was trained for other classes than those of '{args.data}'")
            return
        LOGGER.info(f"{colorstr('finetune:')} '{file}' is of other data or images: its models are validated on these")
        metrics = {}
    args = SimpleNamespace(**{**vars(args), "max_det": earlier.get("max_det", args.max_det)})  # trainings raise theirs
    files[QUANTISED if before else TUNED] = weights
    report = report_on(files, metrics, args, device, folder)
    if before is None and report["curve"]:
        # half of the epochs that were asked for, as the log had it, also of a training that patience has ended
        found = forecast_of(report["curve"], args.epochs, rows["dense"], args.task, file.parent)
        report["forecast"] = found and found._asdict()
    *_, last = report["rows"]
    report["better"] = better_beside(report, folder, last, report["rows"][last][report["metric"]])
    save_report(report, folder, args.plots, on_plot)
