# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress a model, for every task alike: the stages, the run folder and how to resume.

The stages are base training (if the model is a YAML), more training of the dense model (with `dense_epochs`), sparsity
training (if the method needs it), pruning and fine-tuning. A task's classes are a few lines, i.e.
`class DetectionCompressor(Compressor, DetectionTrainer)`; every training stage is a stock trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.devices import unset_deterministic
from ultralytics.cfg.compress.compat.files import get_save_dir
from ultralytics.cfg.compress.compat.keys import teacher_of
from ultralytics.cfg.compress.compat.quantization import NOT_QUANTISED
from ultralytics.cfg.compress.keys import COMPRESS_FILE, get_prune_cfg, is_file, is_sweep, refusing, split
from ultralytics.engine.compress.checks.deployment import check_deployment
from ultralytics.engine.compress.checks.models import (
    check_classes,
    check_model,
    check_teacher,
    is_yaml,
    load_named,
    warn_of_image_size,
)
from ultralytics.engine.compress.checks.quantization import check_quantization
from ultralytics.engine.compress.checks.sparsity import check_sparsity, needs_sparsity, shapes
from ultralytics.engine.compress.checks.training import check_distillation, check_freeze, check_resume_value
from ultralytics.engine.compress.device import check_exports, write_next_bundle
from ultralytics.engine.compress.evaluation import report_on
from ultralytics.engine.compress.finetuner import report_on_finetuning
from ultralytics.engine.compress.lock import unlock
from ultralytics.engine.compress.pruning import prune_for_run
from ultralytics.engine.compress.reading import read, read_model, save_converted
from ultralytics.engine.compress.runs import located, resumed_arguments, run_to_resume
from ultralytics.engine.compress.sensitivity_map import SENSITIVITY_FILE
from ultralytics.engine.compress.stages import Stages, has_begun
from ultralytics.engine.compress.trainings import Trainings, stage_name
from ultralytics.engine.pruning.budget.ahead import check_target
from ultralytics.engine.pruning.budget.costs import COUNTED, check_installed, check_runs, open_table
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.checkpoint.record import source_of
from ultralytics.engine.pruning.graph.image_size import fit_image_size
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.report.build import REPORT_FILE, save_report
from ultralytics.engine.pruning.report.table import deploy_line
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, LOGGER, colorstr


class Compressor(Trainings):
    """Prunes a trained model and has it fine-tuned; stands before a task's stock trainer among the bases of a class.

    Attributes:
        task (str): Task of the stock trainer.
        save_dir (Path): Run folder: args.yaml, compress.yaml, stages.yaml, report.json, weights/prune.pt.
        pruned (Path): The pruned weights.
        known_sensitivity (list[dict[str, Any]]): Rows of the sensitivity map that are known beforehand.
        known_files (list[dict[str, Any]]): Rows of files of the dense model that another run has deployed.
        is_new (bool): There was no run folder before.
        image_size (int): Pixels of a side of the images of a run that is new.
    """

    task: str

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        """Check everything that can be checked before work begins, and set up the run folder.

        Args:
            cfg (str | dict | SimpleNamespace): Configuration.
            overrides (dict, optional): Overrides of the configuration, i.e. an article-style `param_dict`.
            _callbacks (dict, optional): Callbacks; the training stages get them too.

        Raises:
            ValueError: If 'model' or 'data' is missing or of the wrong kind, or the method needs a sparsity training
                that the other keys do not give it.
            ModuleNotFoundError: If 'budget' needs a package that is not installed.
            FileNotFoundError: If 'resume' is set and there is no run to resume, or a file is missing.
        """
        self.changed: dict[str, Any] = {}
        self.resumed = False
        with ExitStack() as refused:
            refused.callback(unset_deterministic)
            super().__init__(cfg, overrides, _callbacks)
            refused.pop_all()
        self.metrics: dict[str, dict[str, float]] = {}
        self.known_sensitivity: list[dict[str, Any]] = []
        self.known_files: list[dict[str, Any]] = []
        self.pruned = self.wdir / "prune.pt"
        if not self.resumed:
            (self.save_dir / SENSITIVITY_FILE).unlink(missing_ok=True)  # with exist_ok, there may be another run's
            self.stages.ready(self.args.model)

    def claim_folder(self, folder: Path) -> None:
        """Take the run's folder, and note in it that it is this run's before anything else is written."""
        super().claim_folder(folder)
        self.stages = Stages(folder, self.resumed, self.changed)

    def release_folder(self) -> None:
        """Let other processes work in the run's folder; one that was refused at once leaves no record."""
        if hasattr(self, "stages"):
            self.stages.forget_unready()
        super().release_folder()

    def prepare(self, cfg: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Check the arguments against each other and against their files; of a run to resume, take its own.

        Args:
            cfg (dict[str, Any]): Configuration.
            overrides (dict[str, Any]): Its overrides.

        Returns:
            (dict[str, Any]): All arguments of training.
        """
        given = {**cfg, **overrides}
        defaults = {k: v for k, v in DEFAULT_CFG_DICT.items() if k != "imgsz"}  # stock trainers have their own
        args = {**defaults, **given, "mode": "compress", "task": self.task}
        check_resume_value(args["resume"], "the folder of a run")
        run = run_to_resume(args) if args["resume"] else None
        self.resumed = run is not None and has_begun(run)
        if run and self.resumed:
            args, self.changed = resumed_arguments(run, {**given, **self.given})
            args, own = split(args)
            self.prune_args = get_prune_cfg(own)
        elif run:
            LOGGER.info(f"{colorstr('compress:')} {run} was stopped before its arguments were written: it begins anew")
            args |= {"resume": False, "save_dir": str(run)}
        if is_sweep(self.prune_args.speed_up):
            raise ValueError(
                f"'speed_up={self.prune_args.speed_up}' is a sweep, which 'yolo compress' and YOLO(...).compress make. "
                "Give a compressor one speed_up."
            )
        if self.prune_args.max_drop is not None:
            raise ValueError(
                f"'max_drop={self.prune_args.max_drop}' is a search, which 'yolo compress' and YOLO(...).compress "
                "make. Give a compressor a speed_up."
            )
        check_distillation(args.get("distill_model"), self.prune_args.distill)
        budget = self.prune_args.budget
        Budget(budget=budget, precision=self.prune_args.precision, runner=self.prune_args.runner)
        check_installed(budget, self.prune_args.runner or "", self.prune_args.precision)
        if is_file(budget) and not self.resumed:
            check_exports(budget)
        return args

    def check_run(self) -> None:
        """Check the model, what comes with it and whether the target can be reached, before there is a folder.

        Raises:
            ValueError: If a model is not valid, its classes are not the data's, or the target is out of reach.
            FileNotFoundError: If a file is missing.
        """
        super().check_run()
        check_quantization(vars(self.args), self.prune_args.qat_epochs)
        check_deployment(self.prune_args.deploy, self.device)
        name, dense = check_model(self.args.model, self.task, self.gives_texts)
        if dense is not None:
            check_classes(dense, self.args, self.data)
            self._check_trainable(name, dense)
        self.args.model = name
        check_sparsity(self.prune_args, name, dense)
        model = self.get_model(cfg=name, weights=None, verbose=False) if dense is None and not self.resumed else dense
        if teacher := teacher_of(self.args):
            check_teacher(teacher, model, self.task)
        if isinstance(self.args.pretrained, (str, Path)):
            if dense is None:
                load_named("pretrained", self.args.pretrained)
            else:
                LOGGER.warning(f"'pretrained={self.args.pretrained}' is not used: the weights are those of '{name}'")
        if not self.resumed:  # which has been checked when it began
            self._check_kept()
            check_freeze(self.args.freeze, model)
            self._check_target(model)
            self.image_size = fit_image_size(model, self.args.imgsz)
        for args in (self.args, self.prune_args):  # the run may be resumed from elsewhere
            vars(args).update(located(vars(args)))
        self.is_new = not get_save_dir(self.args).exists()

    def compress(self) -> str:
        """Run every stage up to the pruned weights, skipping those that are complete.

        Returns:
            (str): Path of the pruned weights.

        Raises:
            ValueError: If the target is out of reach, or the model's classes are not the data's.
        """
        with self.folder_held(), determinism_ends():
            try:
                with refusing((OutOfReachError,)):
                    self._compress()
            except ValueError:
                self._forget()
                raise
        self._clear_memory()  # for the fine-tuning
        return str(self.pruned)

    def train(self) -> None:
        """Refuse to train the dense model in this run's folder, which the stock trainer would do.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{type(self).__name__} prunes instead of training: call its .compress().")

    def _forget(self) -> None:
        """Remove what a run that was refused before its first stage has written, and nothing else."""
        if not self.stages.forget():
            return
        if self.is_new:
            for file in ("args.yaml", COMPRESS_FILE):
                (self.save_dir / file).unlink(missing_ok=True)
            if not any(self.wdir.iterdir()):
                self.wdir.rmdir()
        unlock(self.save_dir, refused=True)

    def _compress(self) -> None:
        """Run the stages."""
        dense = Path(self.args.model)
        if is_yaml(dense):
            dense = self.run_training("base", self.trainer, self.training_args("base", self.args.model))
        dense = self._convert(dense)
        if self.prune_args.dense_epochs:
            dense = self.train_on(dense)
        model, checkpoint = read_model(dense)
        self.args.imgsz = fit_image_size(model, self.args.imgsz)
        warn_of_image_size(checkpoint, self.args.imgsz)
        files = {"dense": dense}
        if needs_sparsity(self.prune_args):
            files["sparse"] = self.sparsify(dense)
        if not self.stages.result("prune"):
            self._prune(dense, files.get("sparse"))
        if not self.stages.result("evaluate"):
            files["pruned"] = self.pruned
            report = report_on(files, dict(self.metrics), self.args, self.device, self.save_dir)
            save_report(report, self.save_dir, self.args.plots, self.on_plot)
            self.stages.complete("evaluate", self.save_dir / REPORT_FILE)
        if not self.prune_args.finetune:
            LOGGER.info(deploy_line(str(self.pruned), self.args.imgsz))

    def _convert(self, dense: Path) -> Path:
        """Return the dense checkpoint, or one that holds its model in stock form, which stock trainers read too."""
        if not (reading := read(dense)).note:
            return dense
        if result := self.stages.result("convert"):
            return result
        converted = self.wdir / "dense.pt"
        save_converted(converted, reading)
        self.stages.complete("convert", converted)
        LOGGER.info(f"{colorstr('compress:')} {dense}: {reading.note}. It is now {converted}")
        return converted

    def _check_kept(self) -> None:
        """Refuse a run in folders of before, by 'exist_ok', that would write over a file which it rests on.

        Raises:
            ValueError: If there is such a file.
        """
        args, run = self.prune_args, get_save_dir(self.args)
        trains = {
            "base": is_yaml(self.args.model),
            "dense": args.dense_epochs,
            "sparsify": needs_sparsity(args) and not args.sl_model,
            "finetune": args.finetune,
            "qat": args.qat_epochs,
        }
        emptied = {run.with_name(stage_name(run.name, stage)) for stage, runs in trains.items() if runs}
        for key in ("model", "distill_model", "sl_model", "pretrained"):
            value = vars(self.all_args).get(key)
            file = Path(value).resolve() if isinstance(value, (str, Path)) else Path()
            if emptied & {*file.parents} or file == run / "weights" / "prune.pt":
                raise ValueError(
                    f"'{key}={value}' would be overwritten by this run, with name={self.args.name} and "
                    f"exist_ok={self.args.exist_ok}. Pass another name, or leave exist_ok out."
                )

    def _check_trainable(self, name: str, dense: nn.Module) -> None:
        """Refuse 'dense_epochs' for a model that the stock trainer would build otherwise: it was converted."""
        epochs = self.prune_args.dense_epochs
        if epochs and shapes(self.get_model(cfg=dense.yaml, weights=dense, verbose=False)) != shapes(dense):
            raise ValueError(
                f"'dense_epochs={epochs}' is not supported with 'model={name}', which Ultralytics' trainer would build "
                "otherwise. Train it on where it comes from, and leave dense_epochs out."
            )

    def _check_target(self, model: nn.Module) -> None:
        """Refuse a target that is known to be out of reach, a damaged table and a device that does not answer."""
        args = self.prune_args
        if args.budget in COUNTED or is_file(args.budget):
            check_target(model, Budget.from_args(self.all_args), METHODS[args.prune_method].needs_norms)
        else:
            check_runs(model, args.budget)
            open_table(args.budget, self.device, args.runner or "", args.precision)

    def finetune(self) -> Path:
        """Fine-tune the pruned weights in a folder beside this run's, and make the files that 'deploy' asks for.

        Returns:
            (Path): The fine-tuned weights; those of the quantization-aware training, if there is one after it.
        """
        with self.folder_held(), determinism_ends():
            best = self.run_training("finetune", self.finetuner, self.training_args("finetune", str(self.pruned)))
            if not (best.parents[1] / REPORT_FILE).exists():  # stopped between the last epoch and the report
                report_on_finetuning(best, self.args, self.device, self.on_plot)
            if self.prune_args.qat_epochs:
                best = self.quantise(best)
            if self.prune_args.deploy and not self.stages.result("deploy"):
                from ultralytics.engine.compress.deploy.stage import deploy  # which older releases cannot import

                self.stages.begin("deploy", best.parents[1])
                if report := deploy(self, best, self.known_files):
                    self.stages.complete("deploy", report)
        return best

    def _prune(self, dense: Path, sparse: Path | None = None) -> None:
        """Cut the dense model, or what a sparsity training has made of it, and write the pruned weights."""
        weights = sparse or dense
        pruned, record = prune_for_run(self, read_model(weights)[0].to(self.device))
        record = replace(record, source=source_of(read(dense).model))  # the dense model teaches, not the sparse one
        save_pruned(self.pruned, pruned, record, {**vars(self.args), **NOT_QUANTISED})
        self.stages.complete("prune", self.pruned)
        if is_file(self.prune_args.budget):
            write_next_bundle(self, weights, pruned)
        LOGGER.info(f"Pruned weights: {colorstr('bold', self.pruned)}")


@contextmanager
def determinism_ends() -> Iterator[None]:
    """Turn deterministic algorithms, which the constructor of every trainer turns on, off when the block ends."""
    try:
        yield
    finally:
        unset_deterministic()
