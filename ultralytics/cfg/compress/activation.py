# SPDX-License-Identifier: AGPL-3.0-or-later
"""Turn the extension on: every name of Ultralytics that it replaces is in `PATCHES`, or nothing is replaced."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ultralytics
from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.cli import EXAMPLE, run
from ultralytics.cfg.compress.compat import TESTED
from ultralytics.cfg.compress.compat.keys import has_module
from ultralytics.cfg.compress.datasets import own_dataset
from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER
from ultralytics.utils.checks import parse_version

ABSENT = object()
OURS = "ultralytics.engine.compress"  # what every compress module of a task imports
failure = ""  # why nothing is replaced
replaced: list[tuple[Any, str, Any, Any]] = []  # owner, name, what Ultralytics has there, what stands there now


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
        from ultralytics.engine.pruning.checkpoint.architecture import has_pruned_yaml, keep_architecture
        from ultralytics.engine.pruning.checkpoint.record import is_pruned

        for key in DEFAULTS:  # version 0.1.0 has left them in checkpoints of plain trainings, which may be resumed
            vars(self.args).pop(key, None)
        if is_pruned(weights) and cfg is None:
            return keep_architecture(weights, self.data, self.args)
        if not has_pruned_yaml(cfg):
            return get_model(self, cfg, weights, verbose)
        others = isinstance(self.args.pretrained, (str, Path)) and not self.resume  # weights of another file
        if is_pruned(weights) and not others:
            return keep_architecture(weights, self.data, self.args)
        raise ValueError(
            f"'pretrained={self.args.pretrained}' is invalid with a pruned model, whose architecture exists only "
            "in its checkpoint. Train it with pretrained=True, or train the dense model's YAML instead."
        )

    return get_model_or_keep_pruned


def refuse_pruned(get_model: Callable, module: ModuleType) -> Callable:
    """Return a `get_model` that refuses a pruned YOLO-World, which it would build anew from the dense YAML's file."""

    @functools.wraps(get_model)
    def get_model_or_refuse(self, cfg=None, weights=None, verbose=True):
        from ultralytics.engine.pruning.checkpoint.architecture import has_pruned_yaml

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

        from ultralytics.engine.pruning.checkpoint import record, releases

        try:
            checkpoint, file = torch_safe_load(weight, *args, **kwargs)
        except (AttributeError, TypeError) as error:  # a class that is not here
            if sentence := releases.explain_failure(weight):
                raise releases.NeedsNewerUltralyticsError(sentence) from error
            raise
        if isinstance(checkpoint, dict):
            model = checkpoint.get("ema") or checkpoint.get("model")
            if isinstance(model, nn.Module) and record.is_pruned(model):  # older safe loads put something else there
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


def apply(name: str) -> None:
    """Replace the names of one imported module; doing so twice changes nothing.

    Args:
        name (str): A key of `PATCHES`.

    Raises:
        Unsupported: If the module has not what the extension needs; nothing is replaced in it then.
    """
    if failure or name not in PATCHES:  # an editable checkout may be newer than the installed start-up hook
        return
    module = importlib.import_module(name)
    if name in TRAINERS:
        check_not_hidden(module)
    missing = [other for other in ALSO_USED.get(name, ()) if not any(hasattr(module, one) for one in other.split("|"))]
    new = []
    for path, build in PATCHES[name].items():
        owner_name, _, attribute = path.rpartition(".")
        owner = getattr(module, owner_name, ABSENT) if owner_name else module
        stock = ABSENT if owner is ABSENT else vars(owner).get(attribute, ABSENT)
        if owner is ABSENT or (stock is ABSENT and path not in ADDED):
            missing.append(path)
        elif not any(stock is now for *_, now in replaced):
            new.append((owner, attribute, stock, build))
    if missing:
        raise Unsupported(f"has no {', '.join(f'{name}.{other}' for other in missing)}")
    for owner, attribute, stock, now in [(*rest, build(rest[-1], module)) for *rest, build in new]:
        _replace(owner, attribute, stock, now)


def check_not_hidden(module: ModuleType) -> None:
    """Refuse an Ultralytics whose own module hides the one of this package beside a trainer.

    Args:
        module (ModuleType): The trainer's module.

    Raises:
        Unsupported: With what to do.
    """
    file = Path(module.__file__ or "").with_name("compress.py")
    if file.is_file() and OURS not in file.read_text(encoding="utf-8", errors="replace"):
        raise Unsupported(
            f"has a module '{file}' of its own, which 'python -m ultralytics_compress_drop_in' moves aside for that of "
            "this package"
        )


def tell_state() -> None:
    """Say whether the extension is on; if it is not, the reason has been said."""
    try:
        activate()
    except ImportError:
        return
    LOGGER.info(f"ultralytics-compress {__version__}: on, in {Path(__file__).parent}")


def _replace(owner: Any, name: str, stock: Any, now: Any) -> None:
    """Replace a name, and what other modules have imported of it: a drop-in copy comes after them."""
    users = [owner]
    if getattr(stock, "__module__", None) == getattr(owner, "__name__", ""):  # a function where it is defined
        users += [user for user in _modules() if user is not owner and vars(user).get(name) is stock]
    for user in users:
        replaced.append((user, name, stock, now))
        setattr(user, name, now)


def give_up(error: Exception) -> None:
    """Put everything back that was replaced, and say so once.

    Args:
        error (Exception): Why.
    """
    global failure
    if failure:
        return
    reason = str(error) if isinstance(error, Unsupported) else f"made it fail with {type(error).__name__}: {error}"
    failure = (
        f"ultralytics-compress {__version__} is off: Ultralytics {ultralytics.__version__} {reason}. Ultralytics works "
        "as without it; for 'compress', install versions of the two that go together."
    )
    for owner, name, stock, now in reversed(replaced):
        if stock is ABSENT:
            delattr(owner, name)
            continue
        for user in (owner, *_modules()):
            if vars(user).get(name) is now:
                setattr(user, name, stock)
    replaced.clear()
    LOGGER.warning(failure)


def _modules() -> list[ModuleType]:
    """Return Ultralytics' imported modules."""
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "ultralytics" and module]


def activate() -> None:
    """Replace everything now: for a drop-in copy, where no start-up hook waits for the imports.

    Raises:
        ImportError: If this Ultralytics is not supported, now or when the start-up hook tried.
    """
    try:
        for name in PATCHES:
            if name not in TRAINERS or has_module(name):
                apply(name)
    except Unsupported as error:
        give_up(error)
    if failure:
        raise ImportError(failure)
    warn_of_untested()


@functools.cache
def warn_of_untested() -> None:
    """Say once, and only to those who compress, that nobody has tried this with so new an Ultralytics."""
    if parse_version(ultralytics.__version__) > parse_version(TESTED[-1]):
        LOGGER.warning(
            f"ultralytics-compress {__version__} was tested with Ultralytics {TESTED[0]} to {TESTED[-1]}, and this is "
            f"{ultralytics.__version__}. It goes on; if something fails, install ultralytics=={TESTED[-1]}."
        )
