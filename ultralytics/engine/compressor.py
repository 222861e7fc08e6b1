# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress a model, for every task alike: the stages, the run folder and how to resume.

The stages are base training (if the model is a YAML), sparsity training (if the method needs it), pruning and
fine-tuning. A task's classes are a few lines, i.e. `class DetectionCompressor(Compressor, DetectionTrainer)`; every
training stage is a stock trainer.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ultralytics import YOLO
from ultralytics.cfg import cfg2dict, get_cfg
from ultralytics.cfg.compress.checks import is_sweep
from ultralytics.cfg.compress.datasets import find_dataset
from ultralytics.engine.compress_stages import STAGES_FILE, Stages, find_run
from ultralytics.engine.pruning.architecture import is_pruned
from ultralytics.engine.pruning.checkpoint import save_pruned
from ultralytics.engine.pruning.costs import COSTS
from ultralytics.engine.pruning.files import sha256
from ultralytics.engine.pruning.heads import find_ends
from ultralytics.engine.pruning.methods import METHODS
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.recalibration import recalibrate
from ultralytics.engine.pruning.report import REPORT_FILE, build_report, save_report
from ultralytics.engine.pruning.scoring import Losses
from ultralytics.engine.pruning.sensitivity import limits_from
from ultralytics.engine.sensitivity_map import map_sensitivity
from ultralytics.engine.sparsity_settings import check_sparsity, needs_sparsity, sl_hyperparameters
from ultralytics.engine.training_batches import training_images, training_losses
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import load_checkpoint, yaml_model_load
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, YAML, colorstr

TASK_METRICS = {  # task: name in the report: name in a validation's results
    "detect": {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"},
    "segment": {"mAP50": "metrics/mAP50(M)", "mAP50-95": "metrics/mAP50-95(M)"},
    "pose": {"mAP50": "metrics/mAP50(P)", "mAP50-95": "metrics/mAP50-95(P)"},
    "obb": {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"},
    "classify": {"top1": "metrics/accuracy_top1", "top5": "metrics/accuracy_top5"},
    "semantic": {"mIoU": "metrics/mIoU", "pixel acc": "metrics/pixel_acc"},
    "depth": {"delta1": "metrics/delta1", "abs rel": "metrics/abs_rel"},
}
MAIN_METRIC = {  # task: the metric that models are compared by, higher is better
    **dict.fromkeys(("detect", "segment", "pose", "obb"), "mAP50-95"),
    "classify": "top1",
    "semantic": "mIoU",
    "depth": "delta1",
}
RESUME_MAY_CHANGE = ("device", "workers", "cache", "batch", "plots")  # keys that a resumed run takes from its caller


class Compressor:
    """Prunes a trained model and has it fine-tuned; stands before a task's stock trainer among the bases of a class.

    Attributes:
        trainer (type): The task's stock trainer, for the base training of a YAML model.
        sparsifier (type): The task's `Sparsifier`.
        finetuner (type): The task's `Finetuner`.
        save_dir (Path): Run folder: args.yaml, stages.yaml, report.json, weights/prune.pt.
        pruned (Path): The pruned weights.
        stages (Stages): Which stages are complete.
        metrics (dict[str, dict[str, float]]): Metrics of rows of the report that are known beforehand.
    """

    trainer: type
    sparsifier: type
    finetuner: type

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
        overrides = {**cfg2dict(cfg), **(overrides or {}), "mode": "compress"}
        if overrides.get("resume"):
            overrides = _resumed(overrides)
        overrides["data"] = find_data(overrides.get("data"))
        check_model(overrides.get("model"))
        args = get_cfg(cfg, overrides)
        check_sparsity(args)
        COSTS[args.budget].check()
        if is_sweep(overrides.get("speed_up")):
            raise ValueError(
                f"'speed_up={overrides['speed_up']}' is a sweep, which 'yolo compress' and YOLO(...).compress make. "
                "Give a compressor one speed_up."
            )
        super().__init__(cfg, overrides, _callbacks)
        self.metrics: dict[str, dict[str, float]] = {}
        self.pruned = self.wdir / "prune.pt"
        self.stages = Stages(self.save_dir)

    def compress(self) -> str:
        """Run every stage up to the pruned weights, skipping those that are complete.

        Returns:
            (str): Path of the pruned weights.
        """
        dense = Path(self.args.model)
        if is_yaml(dense):
            dense = self._train("base", self.trainer, self._training_args("base", self.args.model))
        files = {"dense": dense}
        if needs_sparsity(self.args):
            files["sparse"] = self._sparse(dense)
        if not self.stages.result("prune"):
            self._prune(list(files.values())[-1])
        if not self.stages.result("evaluate"):
            files["pruned"] = self.pruned
            report = report_on(files, dict(self.metrics), self.args, self.device, self.save_dir)
            save_report(report, self.save_dir, self.args.plots, self.on_plot)
            self.stages.complete("evaluate", self.save_dir / REPORT_FILE)
        LOGGER.info(f"Pruned weights: {colorstr('bold', self.pruned)}")
        return str(self.pruned)

    def finetune(self) -> Path:
        """Fine-tune the pruned weights in a folder beside this run's.

        Returns:
            (Path): The fine-tuned weights.
        """
        return self._train("finetune", self.finetuner, self._training_args("finetune", str(self.pruned)))

    def _sparse(self, dense: Path) -> Path:
        """Return the weights that a sparsity training of the dense model has left, or those that stand for it."""
        if self.args.sl_model:
            return Path(self.args.sl_model)
        own = {"epochs": self.args.sl_epochs, "distill_model": None}  # distillation belongs to the fine-tuning
        args = {**self._training_args("sparsify", str(dense)), **sl_hyperparameters(self.args.sl_hyp), **own}
        return self._train("sparsify", self.sparsifier, args)

    def _prune(self, weights: Path) -> None:
        """Cut the dense, or sparse, model and write the pruned weights."""
        model, _ = load_checkpoint(weights, device=self.device)
        method = METHODS[self.args.prune_method]
        losses = training_losses(self, model, method.per_sample) if method.needs_gradients else None
        limits = self._limits(model, losses)
        pruned, record = prune_model(
            model,
            speed_up=self.args.speed_up,
            method=self.args.prune_method,
            global_pruning=self.args.global_pruning,
            round_to=self.args.round_to,
            max_sparsity=self.args.max_sparsity,
            limits=limits,
            losses=losses,
            iterative_steps=self.args.iterative_steps,
            seed=self.args.seed,
            budget=self.args.budget,
            imgsz=self.args.imgsz,
        )
        if self.args.recalibrate:
            recalibrate(pruned, training_images(self, pruned))
        record = {**record, "recalibrated": self.args.recalibrate, "run": str(self.save_dir)}
        save_pruned(self.pruned, pruned, record, weights, vars(self.args))
        self.stages.complete("prune", self.pruned)

    def _limits(self, model: nn.Module, losses: Losses | None) -> dict[str, float]:
        """Map the sensitivity, if asked for, and return how much each group may lose by it."""
        largest_drop = self.args.sensitivity_drop
        if not self.args.sensitivity and largest_drop is None:
            return {}
        self.stages.begin("sensitivity", self.save_dir)
        metric = MAIN_METRIC[self.args.task]
        rows = map_sensitivity(self, model, metric, TASK_METRICS[self.args.task][metric], losses)
        return {} if largest_drop is None else limits_from(rows, largest_drop)

    def _train(self, stage: str, trainer: Callable, args: dict[str, Any]) -> Path:
        """Run a training stage, or the rest of it, and return its best weights."""
        if result := self.stages.result(stage):
            LOGGER.info(f"{colorstr('compress:')} stage '{stage}' is complete: {result}")
            return result
        folder = self.stages.folder(stage)
        last = folder / "weights" / "last.pt" if folder else None
        if last is None or not last.exists():
            own = {"save_dir": str(folder)} if folder else {}  # stopped before its first epoch ended
            run = trainer(overrides={**args, **own}, _callbacks=self.callbacks)
            self.stages.begin(stage, run.save_dir)
            run.train()
        elif load_checkpoint(last)[1]["epoch"] >= 0:  # Ultralytics sets -1 when training has ended
            run = trainer(overrides={"resume": str(last), **self._resume_args()}, _callbacks=self.callbacks)
            run.train()
        folder = self.stages.folder(stage)
        best = folder / "weights" / "best.pt"
        self.stages.complete(stage, best if best.exists() else folder / "weights" / "last.pt")
        return self.stages.result(stage)

    def _training_args(self, stage: str, model: str) -> dict[str, Any]:
        """Return the arguments of a training stage: this run's, with a folder beside this run's."""
        name = self.save_dir.name
        prefix, found, number = name.rpartition("-prune")
        name = f"{prefix}-{stage}{number}" if found else f"{name}-{stage}"
        own = {"model": model, "mode": "train", "project": str(self.save_dir.parent), "name": name, "resume": False}
        return {**{k: v for k, v in vars(self.args).items() if k != "save_dir"}, **own}

    def _resume_args(self) -> dict[str, Any]:
        """Return what a resumed training stage takes from this run's arguments."""
        return {k: getattr(self.args, k) for k in RESUME_MAY_CHANGE}


class Finetuner:
    """Trains a pruned checkpoint and reports; stands before a task's stock trainer among the bases of a class."""

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        """Check that the model is a pruned one, and set up a stock training run.

        Args:
            cfg (str | dict | SimpleNamespace): Configuration.
            overrides (dict, optional): Overrides of the configuration; 'resume=True' continues the newest run of
                this 'project' and 'name', if there is one.
            _callbacks (dict, optional): Callbacks.

        Raises:
            ValueError: If 'model' is not a pruned checkpoint.
        """
        args = {**cfg2dict(DEFAULT_CFG), **cfg2dict(cfg), **(overrides or {})}
        overrides = dict(overrides or {})  # no defaults among them: they would take the place of a resumed run's own
        if args["resume"] is True:
            run = find_run(args, "weights/last.pt")
            overrides["resume"] = str(run / "weights" / "last.pt") if run else False
        if not overrides.get("resume", args["resume"]):
            overrides["data"] = find_data(args["data"])
            model = args["model"]
            check_model(model)
            if is_yaml(model) or not is_pruned(pruned := load_checkpoint(model)[0]):
                raise ValueError(
                    f"'model={model}' is not a pruned checkpoint. Prune it first with 'yolo compress', or train it as "
                    "it is with 'yolo train'."
                )
            if args["distill"] and not args["distill_model"]:
                overrides["distill_model"] = find_teacher(pruned)
        super().__init__(cfg, overrides, _callbacks)

    def train(self) -> None:
        """Train as the stock trainer does, then write the report."""
        super().train()
        if LOCAL_RANK == -1:  # the process that the user started; DDP workers are its children
            self.report()

    def report(self) -> None:
        """Compare the fine-tuned model with the dense and the pruned one of the compress run that it comes from."""
        best = self.best if self.best.exists() else self.last
        before = Path(load_checkpoint(best)[0].pruning["run"]) / REPORT_FILE
        rows = json.loads(before.read_text(encoding="utf-8"))["rows"] if before.exists() else {}
        files = {name: Path(row["weights"]) for name, row in rows.items()}
        if missing := [str(file) for file in (before, *files.values()) if not file.exists()]:
            LOGGER.warning(f"no report: what it would compare with is gone: {', '.join(missing)}")
            return
        metrics = {name: {k: row[k] for k in TASK_METRICS[self.args.task]} for name, row in rows.items()}
        files["fine-tuned"] = best
        report = report_on(files, metrics, self.args, self.device, self.save_dir)
        save_report(report, self.save_dir, self.args.plots, self.on_plot)


def report_on(
    files: dict[str, Path],
    metrics: dict[str, dict[str, float]],
    args: SimpleNamespace,
    device: torch.device,
    folder: Path,
) -> dict:
    """Return the report on checkpoints, validating those whose metrics are not given.

    Args:
        files (dict[str, Path]): Name of the row to checkpoint.
        metrics (dict[str, dict[str, float]]): Known metrics of some rows.
        args (SimpleNamespace): Arguments of the run, from which the validation takes its own.
        device (torch.device): Where to validate and to measure latency.
        folder (Path): Run folder, for what the validation saves.

    Returns:
        (dict): See `ultralytics.engine.pruning.report.build_report`.
    """
    keys = ("data", "imgsz", "batch", "workers", "split", "single_cls", "classes", "max_det")
    own = {"device": device_name(device), "save_dir": str(folder), "plots": False, "mode": "val"}
    for name in files.keys() - metrics.keys():
        LOGGER.info(f"{colorstr('compress:')} validating the {name} model")
        result = YOLO(files[name]).val(**{k: getattr(args, k) for k in keys}, **own).results_dict
        metrics[name] = {metric: result[key] for metric, key in TASK_METRICS[args.task].items()}
    models = {name: load_checkpoint(file)[0] for name, file in files.items()}
    return build_report(models, files, metrics, args.imgsz, device, read_curve(folder / "results.csv", args.task))


def read_curve(results: Path, task: str) -> dict[str, Any] | None:
    """Return the accuracy in every epoch of a training.

    Args:
        results (Path): Ultralytics' results.csv.
        task (str): Task, whose main metric is read.

    Returns:
        (dict[str, Any] | None): Name of the 'metric', 'epochs' and 'values'; None if there was no training.
    """
    if not results.exists():
        return None
    metric = MAIN_METRIC[task]
    with results.open(encoding="utf-8", newline="") as f:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(f)]
    measured = [row for row in rows if row[TASK_METRICS[task][metric]].strip()]  # val=False leaves gaps
    values = [float(row[TASK_METRICS[task][metric]]) for row in measured]
    return {"metric": metric, "epochs": [int(row["epoch"]) for row in measured], "values": values}


def device_name(device: torch.device) -> str:
    """Return a device as Ultralytics' 'device' argument has it: '0' for the first GPU."""
    return str(device.index or 0) if device.type == "cuda" else str(device)


def is_yaml(model: str | Path) -> bool:
    """Return True for a model that is given as a YAML and has no weights yet."""
    return str(model).lower().endswith((".yaml", ".yml"))


def check_model(model: Any) -> None:
    """Check that a model can be compressed: a YAML that can be found, or a checkpoint with a head that is supported.

    Args:
        model (Any): Value of 'model'.

    Raises:
        ValueError: If it is missing, neither a .pt nor a YAML file, or has a head that cannot be pruned.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(model, (str, Path)) or not (is_yaml(model) or str(model).lower().endswith(".pt")):
        raise ValueError(f"'model={model}' is invalid. 'model' must be a trained .pt file, or a .yaml to train first.")
    if is_yaml(model):
        yaml_model_load(model)
    else:
        find_ends(load_checkpoint(model)[0])


def find_data(data: Any) -> str:
    """Return the data set of a run; this package's own data sets are found by their bare name.

    Args:
        data (Any): Value of 'data'.

    Returns:
        (str): The same, or the path of this package's file of that name.

    Raises:
        ValueError: If it is missing.
    """
    if not data:
        raise ValueError(f"'data={data}' is invalid. 'data' must name a data set, i.e. 'data=coco8.yaml'.")
    return find_dataset(data)


def find_teacher(pruned: nn.Module) -> str | None:
    """Return the checkpoint that a model was cut from, to distil it into that model while fine-tuning.

    Args:
        pruned (nn.Module): Pruned model.

    Returns:
        (str | None): Its path; None if the model has a head whose features Ultralytics cannot distil, or the file is
            gone or another one by now, which is logged.
    """
    if not isinstance(pruned.model[-1], Detect):
        return None
    source = pruned.pruning["source"]
    if not Path(source["path"]).exists() or sha256(source["path"]) != source["sha256"]:
        LOGGER.warning(
            f"no distillation: '{source['path']}', from which the model was pruned, is gone or has changed. "
            "Pass 'distill_model=path/to/dense.pt', or 'distill=False'."
        )
        return None
    return source["path"]


def _resumed(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the run to resume, with what its caller may change."""
    resume = overrides["resume"]
    run = find_run(overrides, STAGES_FILE) if resume is True else Path(resume)
    if run is None or not (run / STAGES_FILE).exists():
        raise FileNotFoundError(
            f"'resume={resume}' found no run to resume with name={overrides.get('name')} and "
            f"project={overrides.get('project')}. Pass the same name and project as before, or resume=path/to/run."
        )
    saved = YAML.load(run / "args.yaml")
    changed = {k: overrides[k] for k in RESUME_MAY_CHANGE if k in overrides}
    LOGGER.info(f"{colorstr('compress:')} resuming {run} with its own arguments and {changed or 'no changes'}")
    return {**saved, **changed, "save_dir": str(run), "resume": False}
