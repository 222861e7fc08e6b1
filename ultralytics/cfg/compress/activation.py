# SPDX-License-Identifier: AGPL-3.0-or-later
"""Turn the extension on: every name of Ultralytics that it changes is changed here, and listed in `PATCHES`."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

from ultralytics.cfg.compress.checks import INT_MIN, check_prune_cfg, sweep_targets
from ultralytics.cfg.compress.datasets import find_dataset

PRUNE_CFG_PATH = Path(__file__).with_name("default.yaml")
FLOAT_KEYS = frozenset({"speed_up", "reg", "reg_decay", "delta_reg", "sensitivity_drop"})
FRACTION_KEYS = frozenset({"max_sparsity"})
INT_KEYS = frozenset(INT_MIN)
BOOL_KEYS = frozenset({"global_pruning", "recalibrate", "distill", "sensitivity"})
STR_KEYS = frozenset({"prune_method", "budget", "reg_decay_type"})
CLI_EXAMPLE = """
    Make a trained model smaller and faster by structured pruning, then fine-tune it:
        yolo compress model=path/to/best.pt data=coco8.yaml speed_up=2.0 epochs=100
"""


def patch_cfg(cfg: ModuleType) -> None:
    """Add the compress mode and its keys to `ultralytics.cfg`: MODES, the type tables, checks and CLI help."""
    from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, YAML

    if "compress" in cfg.MODES:
        return
    keys = YAML.load(PRUNE_CFG_PATH)
    DEFAULT_CFG_DICT.update(keys)
    vars(DEFAULT_CFG).update(keys)
    cfg.CFG_FLOAT_KEYS |= FLOAT_KEYS
    cfg.CFG_FRACTION_KEYS |= FRACTION_KEYS
    cfg.CFG_INT_KEYS |= INT_KEYS
    cfg.CFG_INT_MIN.update(INT_MIN)
    cfg.CFG_BOOL_KEYS |= BOOL_KEYS
    cfg.CFG_STR_KEYS |= STR_KEYS

    modes = cfg.MODES
    cfg.MODES = (*modes, "compress")
    cfg.CLI_HELP_MSG = cfg.CLI_HELP_MSG.replace(str(list(modes)), str(list(cfg.MODES))) + CLI_EXAMPLE

    check_cfg = cfg.check_cfg

    @functools.wraps(check_cfg)
    def check_cfg_and_prune_keys(cfg: dict, hard: bool = True) -> None:
        targets = sweep_targets(cfg)
        for target in targets:
            check_cfg({"speed_up": target}, hard)
            check_prune_cfg({"speed_up": target})
        single = {k: v for k, v in cfg.items() if not (targets and k == "speed_up")}
        check_cfg(single, hard)
        check_prune_cfg(single)
        if not hard:  # it converts values in place
            cfg.update(single)

    cfg.check_cfg = check_cfg_and_prune_keys

    class YAMLWithPruneKeys(YAML):
        """`yolo cfg` prints default.yaml through `YAML.print`: let it print the added keys as well."""

        @classmethod
        def print(cls, yaml_file):
            YAML.print(yaml_file)
            if yaml_file == cfg.DEFAULT_CFG_PATH:
                YAML.print(PRUNE_CFG_PATH)

    cfg.YAML = YAMLWithPruneKeys


def patch_model(module: ModuleType) -> None:
    """Give Ultralytics' model classes a `compress` method."""
    if hasattr(module.Model, "compress"):
        return

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

    module.Model.compress = compress


def patch_data(module: ModuleType) -> None:
    """Let a classification data set be given as a YAML, and this package's data sets by their bare name.

    The YAML's 'download' draws or fetches the folder that its 'path' names; classes are the folder's, as ever.

    Args:
        module (ModuleType): `ultralytics.data.utils`.
    """
    check_folder, check_file = module.check_cls_dataset, module.check_file
    if hasattr(check_folder, "__wrapped__"):
        return

    @functools.wraps(check_folder)
    def check_folder_or_yaml(dataset, split=""):
        if str(dataset).lower().endswith((".yaml", ".yml")):
            dataset = module.check_det_dataset(dataset)["path"]
        return check_folder(dataset, split)

    @functools.wraps(check_file)
    def check_own_or_other_file(file, *args, **kwargs):
        return check_file(find_dataset(file), *args, **kwargs)

    module.check_file = check_own_or_other_file
    for name, user in list(sys.modules.items()):  # in a drop-in copy, the trainer has imported the function before
        if name.startswith("ultralytics.") and vars(user).get("check_cls_dataset") is check_folder:
            user.check_cls_dataset = check_folder_or_yaml


class LazyTask(dict):
    """A task's row of the task map, which imports its compressor when it is asked for: most runs prune nothing."""

    def __init__(self, row: dict, module: str, name: str):
        """Take over a row.

        Args:
            row (dict): Ultralytics' row of the task: 'model', 'trainer', 'validator' and 'predictor'.
            module (str): Module of the compressor.
            name (str): Its class.
        """
        super().__init__(row)
        self._compressor = module, name

    def __missing__(self, key: str) -> type:
        """Return the class of 'compressor'."""
        if key != "compressor":
            raise KeyError(key)
        module, name = self._compressor
        return getattr(importlib.import_module(module), name)


def patch_task_map(family: str, module: ModuleType) -> None:
    """Add the compressors to the task map of a model class.

    Args:
        family (str): Name of the class, a key of `COMPRESSORS`.
        module (ModuleType): The module that has it.
    """
    model = getattr(module, family)
    task_map = model.task_map.fget
    if hasattr(task_map, "__wrapped__"):
        return

    @functools.wraps(task_map)
    def with_compressors(self):
        tasks = task_map(self)
        return tasks | {task: LazyTask(tasks[task], *place) for task, place in COMPRESSORS[family].items()}

    model.task_map = property(with_compressors)


def patch_trainer(name: str, module: ModuleType) -> None:
    """Let a stock trainer keep a pruned architecture instead of rebuilding the dense one from its YAML.

    Args:
        name (str): Name of the trainer.
        module (ModuleType): The module that has it.
    """
    trainer = getattr(module, name)
    get_model = trainer.get_model
    if hasattr(get_model, "__wrapped__"):
        return

    @functools.wraps(get_model)
    def get_model_or_keep_pruned(self, cfg=None, weights=None, verbose=True):
        from ultralytics.engine.pruning.checkpoint.architecture import has_pruned_yaml, keep_architecture
        from ultralytics.engine.pruning.checkpoint.record import is_pruned

        if is_pruned(weights):
            return keep_architecture(weights, self.data, self.args)
        if has_pruned_yaml(cfg):
            raise ValueError(
                f"'pretrained={self.args.pretrained}' is invalid with a pruned model, whose architecture exists only "
                "in its checkpoint. Train it with pretrained=True, or train the dense model's YAML instead."
            )
        return get_model(self, cfg, weights, verbose)

    trainer.get_model = get_model_or_keep_pruned


COMPRESSORS = {  # model class: task: module and class
    "YOLO": {
        "detect": ("ultralytics.models.yolo.detect.compress", "DetectionCompressor"),
        "segment": ("ultralytics.models.yolo.segment.compress", "SegmentationCompressor"),
        "pose": ("ultralytics.models.yolo.pose.compress", "PoseCompressor"),
        "obb": ("ultralytics.models.yolo.obb.compress", "OBBCompressor"),
        "classify": ("ultralytics.models.yolo.classify.compress", "ClassificationCompressor"),
        "semantic": ("ultralytics.models.yolo.semantic.compress", "SemanticSegmentationCompressor"),
        "depth": ("ultralytics.models.yolo.depth.compress", "DepthCompressor"),
    },
    "RTDETR": {"detect": ("ultralytics.models.rtdetr.compress", "RTDETRCompressor")},
}
TRAINERS = {  # module: trainer
    "ultralytics.models.yolo.detect.train": "DetectionTrainer",
    "ultralytics.models.yolo.segment.train": "SegmentationTrainer",
    "ultralytics.models.yolo.pose.train": "PoseTrainer",
    "ultralytics.models.yolo.obb.train": "OBBTrainer",
    "ultralytics.models.yolo.classify.train": "ClassificationTrainer",
    "ultralytics.models.yolo.semantic.train": "SemanticSegmentationTrainer",
    "ultralytics.models.yolo.depth.train": "DepthTrainer",
    "ultralytics.models.rtdetr.train": "RTDETRTrainer",
}
PATCHES = {
    "ultralytics.cfg": patch_cfg,
    "ultralytics.data.utils": patch_data,
    "ultralytics.engine.model": patch_model,
    "ultralytics.models.yolo.model": functools.partial(patch_task_map, "YOLO"),
    "ultralytics.models.rtdetr.model": functools.partial(patch_task_map, "RTDETR"),
    **{module: functools.partial(patch_trainer, trainer) for module, trainer in TRAINERS.items()},
}


def apply(name: str) -> None:
    """Patch one imported module; doing so twice changes nothing.

    Args:
        name (str): A key of `PATCHES`.
    """
    PATCHES[name](importlib.import_module(name))


def activate() -> None:
    """Patch everything now: for a drop-in copy, where no start-up hook waits for the imports."""
    for name in PATCHES:
        apply(name)
