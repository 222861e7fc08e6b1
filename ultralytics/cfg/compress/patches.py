# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the extension replaces in Ultralytics, name by name, and what it puts there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ultralytics
from ultralytics.cfg.compress.cli import EXAMPLE, run
from ultralytics.cfg.compress.compat import TESTED
from ultralytics.cfg.compress.datasets import own_dataset
from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.engine.pruning.checkpoint.marks import has_pruned_yaml, is_pruned
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.checks import parse_version

ABSENT = object()


class Unsupported(Exception):
    """This Ultralytics is another one than the extension was written for."""


def add_mode(modes: tuple[str, ...], cfg: ModuleType) -> tuple[str, ...]:
    """Return Ultralytics' modes and this one."""
    if parse_version(ultralytics.__version__) < parse_version(TESTED[0]):
        raise Unsupported(f"is older than {TESTED[0]}")
    if taken := [*DEFAULTS.keys() & DEFAULT_CFG_DICT.keys(), *({"compress"} & {*modes})]:
        raise Unsupported(f"has {', '.join(map(repr, sorted(taken)))} of its own")
    return (*modes, "compress")


def add_example(text: str, cfg: ModuleType) -> str:
    """Return the help of the command line with this mode."""
    modes = ", ".join(repr(mode) for mode in cfg.MODES if mode != "compress")  # the text of a list, or of a set
    return text.replace(modes, f"{modes}, 'compress'") + EXAMPLE


def add_commands(entrypoint: Callable, cfg: ModuleType) -> Callable:
    """Return the `yolo` command with this mode."""

    @functools.wraps(entrypoint)
    def entrypoint_with_compress(debug: str = "") -> None:
        run(cfg, entrypoint, debug)

    return entrypoint_with_compress


def add_compress(stock: Any, module: ModuleType) -> Callable:
    """Return a `compress` method for the model classes."""
    if stock is not ABSENT:
        raise Unsupported("has a method Model.compress of its own")

    def compress(self, compressor=None, **kwargs):
        """Prune the model to `speed_up`, fine-tune it, and hold the fine-tuned model from then on.

        Args:
            compressor (type, optional): Compressor class, by default the one of the model's task.
            **kwargs (Any): Keys of the compress mode and of training, i.e. data, speed_up, epochs, imgsz, resume.

        Returns:
            (dict): The report: dense, pruned and fine-tuned model side by side, as in report.json.

        Examples:
            >>> model = YOLO("best.pt")
            >>> model.compress(data="coco8.yaml", speed_up=2.0, epochs=100)
        """
        from ultralytics.engine.compress.mode import compress_model

        return compress_model(self, compressor, **kwargs)

    from ultralytics.engine.compress.api import method_signature

    compress.__signature__ = method_signature()  # type: ignore[attr-defined]  # for help(), which names all keys
    return compress


def add_yaml(check_cls_dataset: Callable, data: ModuleType) -> Callable:
    """Return a check that takes a YAML for a classification data set, which Ultralytics refuses.

    The YAML's 'download' draws or fetches the folder that its 'path' names; classes are the folder's, as ever.
    """

    @functools.wraps(check_cls_dataset)
    def check_folder_or_yaml(dataset, split=""):
        is_folder = Path(dataset).is_dir() or (data.DATASETS_DIR / dataset).is_dir()
        if str(dataset).lower().endswith((".yaml", ".yml")) and not is_folder:
            dataset = data.check_det_dataset(dataset)["path"]
        return check_cls_dataset(dataset, split)

    return check_folder_or_yaml


def add_datasets(check_file: Callable, data: ModuleType) -> Callable:
    """Return a look-up that knows this package's data sets by their bare name, where Ultralytics finds no such file."""

    @functools.wraps(check_file)
    def check_other_or_own_file(file, *args, **kwargs):
        try:
            found = check_file(file, *args, **kwargs)
        except FileNotFoundError:
            if own := own_dataset(file):
                return own
            raise
        return found or own_dataset(file) or found

    return check_other_or_own_file


def add_pruned(get_model: Callable, module: ModuleType) -> Callable:
    """Return a `get_model` that keeps the architecture of a pruned model, which its YAML does not describe."""

    @functools.wraps(get_model)
    def get_model_or_keep_pruned(self, cfg=None, weights=None, verbose=True):
        for key in DEFAULTS:  # version 0.1.0 has left them in checkpoints of plain trainings, which may be resumed
            vars(self.args).pop(key, None)
        if not (is_pruned(weights) and cfg is None) and not has_pruned_yaml(cfg):
            return get_model(self, cfg, weights, verbose)
        from ultralytics.engine.pruning.checkpoint.architecture import keep_architecture

        if cfg is None:
            return keep_architecture(weights, self.data, self.args)
        others = isinstance(self.args.pretrained, (str, Path)) and not self.resume  # weights of another file
        if is_pruned(weights) and not others:
            return keep_architecture(weights, self.data, self.args)
        raise ValueError(
            f"'pretrained={self.args.pretrained}' is invalid with a pruned model, whose architecture exists only "
            "in its checkpoint. Train it with pretrained=True, which reset_weights() sets to False, or train the dense "
            "model's YAML instead."
        )

    return get_model_or_keep_pruned


def refuse_pruned(get_model: Callable, module: ModuleType) -> Callable:
    """Return a `get_model` that refuses a pruned YOLO-World, which it would build anew from the dense YAML's file."""

    @functools.wraps(get_model)
    def get_model_or_refuse(self, cfg=None, weights=None, verbose=True):
        if has_pruned_yaml(cfg):
            raise ValueError(
                "a pruned YOLO-World keeps the classes that it was pruned with. Train it on them with WorldFinetune "
                "of ultralytics.models.yolo.world.compress, or train the dense model and prune that."
            )
        return get_model(self, cfg, weights, verbose)

    return get_model_or_refuse


def add_release(torch_safe_load: Callable, tasks: ModuleType) -> Callable:
    """Return a loader that says, of a pruned checkpoint that does not load here, which Ultralytics loads it."""

    @functools.wraps(torch_safe_load)
    def load_or_say_where(weight, *args, **kwargs):
        from torch import nn

        try:
            checkpoint, file = torch_safe_load(weight, *args, **kwargs)
        except (AttributeError, TypeError) as error:  # a class that is not here
            try:
                from ultralytics.engine.pruning.checkpoint import releases
            except ImportError:  # nor is one that this package needs: Ultralytics' own error stays
                raise error from None
            if sentence := releases.explain_failure(weight):
                raise releases.NeedsNewerUltralyticsError(sentence) from error
            raise
        if isinstance(checkpoint, dict):
            model = checkpoint.get("ema") or checkpoint.get("model")
            if isinstance(model, nn.Module) and is_pruned(model):  # older safe loads put something else there
                from ultralytics.engine.pruning.checkpoint import releases

                releases.check_changes(model, file)
        return checkpoint, file

    return load_or_say_where


TRAINERS = {  # module: trainer; not every Ultralytics has them all
    "ultralytics.models.yolo.detect.train": "DetectionTrainer",
    "ultralytics.models.yolo.segment.train": "SegmentationTrainer",
    "ultralytics.models.yolo.pose.train": "PoseTrainer",
    "ultralytics.models.yolo.obb.train": "OBBTrainer",
    "ultralytics.models.yolo.classify.train": "ClassificationTrainer",
    "ultralytics.models.yolo.semantic.train": "SemanticSegmentationTrainer",
    "ultralytics.models.yolo.depth.train": "DepthTrainer",
    "ultralytics.models.rtdetr.train": "RTDETRTrainer",
}
PATCHES: dict[str, dict[str, Callable[[Any, ModuleType], Any]]] = {  # module: name: what makes the replacement
    "ultralytics.cfg": {"MODES": add_mode, "CLI_HELP_MSG": add_example, "entrypoint": add_commands},
    "ultralytics.data.utils": {"check_cls_dataset": add_yaml, "check_file": add_datasets},
    "ultralytics.nn.tasks": {"torch_safe_load": add_release},
    "ultralytics.engine.model": {"Model.compress": add_compress},
    **{module: {f"{trainer}.get_model": add_pruned} for module, trainer in TRAINERS.items()},
    "ultralytics.models.yolo.world.train": {"WorldTrainer.get_model": refuse_pruned},
}
ADDED = {"Model.compress"}  # names that Ultralytics has not
ALSO_USED = {  # module: names; of two with a bar between them, one is enough
    "ultralytics.cfg": (
        "ARGV",
        "YAML|yaml_load",
        "DEFAULT_CFG_DICT",
        "merge_equals_args",
        "parse_key_value_pair",
        "check_dict_alignment",
        "check_cfg",
        "get_cfg",
        "get_save_dir",
    ),
    "ultralytics.data.utils": ("DATASETS_DIR", "check_det_dataset"),
    "ultralytics.engine.model": ("load_checkpoint|attempt_load_one_weight", "yaml_model_load"),
}
