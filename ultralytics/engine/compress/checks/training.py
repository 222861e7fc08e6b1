# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checks of training's keys that Ultralytics itself reads late, after the stages before the training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

from ultralytics.cfg import CFG_BOOL_KEYS, CFG_FLOAT_KEYS, CFG_FRACTION_KEYS, CFG_INT_KEYS
from ultralytics.cfg.compress.compat.quantization import AMP_NAMES
from ultralytics.cfg.compress.compat.training import OPTIMIZERS, is_optimizer
from ultralytics.cfg.compress.datasets import find_dataset
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import autocast

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
COPY_PASTE = ("flip", "mixup")
POLICIES = ("randaugment", "autoaugment", "augmix")  # None for none
LEAST = {"epochs": 1, "patience": 0, "nbs": 1, "seed": 0}
LONGEST_NAME = 200  # bytes of a folder's name: file systems take 255, and stages and numbers are appended


class Rule(NamedTuple):
    """Which values of a key are valid."""

    holds: Callable[[Any], bool]
    text: str


def is_number(value: Any) -> bool:
    """Return True for a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any, least: int = 0) -> bool:
    """Return True for a whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def are_counts(value: Any, least: int = 0) -> bool:
    """Return True for a whole number, or a list of one or more."""
    values = value if isinstance(value, (list, tuple)) and value else [value]
    return all(is_count(v, least) for v in values)


def is_place(value: Any) -> bool:
    """Return True for what can be the name or the path of a folder."""
    if isinstance(value, bool) or not isinstance(value, (str, Path, int, float)):
        return False
    return is_loadable(str(value)) and all(len(os.fsencode(part)) <= LONGEST_NAME for part in Path(str(value)).parts)


def is_loadable(path: str) -> bool:
    """Return True for a path of a checkpoint that Ultralytics reads as it is.

    It drops quotes, outer spaces and what follows a '?'.
    """
    return path.isprintable() and not any(mark in path for mark in "'?") and path == path.strip()


def is_folder_name(value: Any) -> bool:
    """Return True for what can stand before '-prune' in the name of a folder."""
    return is_place(value) and bool(Path(str(value)).name) and ".." not in Path(str(value)).parts


def is_new_or_folder(value: Any) -> bool:
    """Return True for a path on which, and above which, there is no file."""
    return is_place(value) and not any(path.is_file() for path in (Path(str(value)), *Path(str(value)).parents))


FINITE = Rule(is_number, "must be a finite number")
NO_OTHERS = f"of {LONGEST_NAME} bytes at most and without quotes ('), '?' or control characters"
FOLDER = Rule(is_new_or_folder, f"must be the path of a folder, with names {NO_OTHERS}")
RULES = {
    **dict.fromkeys(sorted(CFG_FLOAT_KEYS), FINITE),
    "optimizer": Rule(is_optimizer, f"must be one of {', '.join(OPTIMIZERS)}"),
    "freeze": Rule(
        lambda v: (
            is_count(v) or (isinstance(v, list) and v != [] and all(is_count(x) or isinstance(x, str) for x in v))
        ),
        "must be a number of layers (i.e. 'freeze=10'), or a list of indices of layers or names of modules (i.e. "
        "'freeze=[0,22.cv2]')",
    ),
    "imgsz": Rule(lambda v: are_counts(v, 1), "must be a size in pixels (i.e. 'imgsz=640')"),
    "batch": Rule(
        lambda v: is_count(v, 1) or v == -1 or (isinstance(v, float) and 0 < v < 1),
        "must be a number of images, -1 or a share of the memory between 0.0 and 1.0",
    ),
    "device": Rule(
        lambda v: are_counts(v) if isinstance(v, (list, tuple)) else not isinstance(v, (float, dict)),
        "must be 'cpu', 'mps', or GPUs (i.e. 'device=0' or 'device=0,1')",
    ),
    "workers": Rule(is_count, "must be a number of processes"),
    **{key: Rule(partial(is_count, least=least), f"must be an int >= {least}") for key, least in LEAST.items()},
    "fraction": Rule(
        lambda v: isinstance(v, list) or (is_number(v) and v > 0), "must be a share of the pictures, greater than 0.0"
    ),
    "amp": Rule(
        lambda v: isinstance(v, bool) or str(v).lower() in AMP_NAMES,
        f"must be {', '.join(('True', 'False', *AMP_NAMES))}",
    ),
    "cache": Rule(
        lambda v: isinstance(v, bool) or str(v).lower() in {"ram", "disk"}, "must be True, False, ram or disk"
    ),
    "time": Rule(lambda v: is_number(v) and v > 0, "must be a number of hours"),
    "classes": Rule(are_counts, "must be the index of a class or a list of them"),
    "compile": Rule(
        lambda v: isinstance(v, bool) or v in COMPILE_MODES, f"must be True, False or one of {', '.join(COMPILE_MODES)}"
    ),
    "split": Rule(lambda v: isinstance(v, str) and bool(v), "must name a split of the data set (i.e. 'split=val')"),
    "copy_paste_mode": Rule(lambda v: v in COPY_PASTE, f"must be one of {', '.join(COPY_PASTE)}"),
    "auto_augment": Rule(lambda v: v in POLICIES, f"must be None or one of {', '.join(POLICIES)}"),
    "save": Rule(lambda v: v is not False, "must be True: every stage goes on from the checkpoints of the one before"),
    "pretrained": Rule(lambda v: isinstance(v, (bool, str, Path)), "must be True, False or a trained .pt file"),
    "name": Rule(is_folder_name, f"must be the name of a folder, {NO_OTHERS}, and without '..'"),
    "project": FOLDER,
    "save_dir": Rule(lambda v: isinstance(v, (str, Path)) and is_new_or_folder(v), FOLDER.text),
    "distill_model": Rule(lambda v: isinstance(v, (str, Path)) and bool(str(v)), "must be a trained .pt file"),
}
NEEDED = {"imgsz", "batch", "split", "optimizer", "amp", "compile"}  # of any of these, and of keys of one type, ...
NEEDED |= CFG_FLOAT_KEYS | CFG_FRACTION_KEYS | CFG_INT_KEYS | CFG_BOOL_KEYS
NEEDED = {key for key in NEEDED if DEFAULT_CFG_DICT.get(key) is not None}  # ... None is valid if it is the default


def check_training(args: Mapping[str, Any]) -> None:
    """Check keys of training that not every Ultralytics checks, or not before it uses them.

    Args:
        args (Mapping[str, Any]): Keys of training.

    Raises:
        ValueError: If a value is not valid.
        TypeError: If there is none.
    """
    for key, value in args.items():
        if value is None and key in NEEDED:
            raise TypeError(f"'{key}=None' is invalid. '{key}' must not be None.")
        if value is not None and key in RULES and not RULES[key].holds(value):
            raise ValueError(f"'{key}={value}' is an invalid value. '{key}' {RULES[key].text}.")


def check_place(save_dir: str | Path) -> None:
    """Check the whole path of a run's folder, of which the working directory is a part.

    Args:
        save_dir (str | Path): Folder, from the root.

    Raises:
        ValueError: If Ultralytics could not load what is saved there.
    """
    if not is_loadable(str(save_dir)):
        raise ValueError(
            f"the run's folder would be '{save_dir}', and Ultralytics does not load what is in a path with quotes ('), "
            "'?' or control characters. Pass another 'project', or work in another directory."
        )


def check_devices(args: SimpleNamespace, device: torch.device, gpus: int) -> None:
    """Check keys whose values a device has to support, or that several have to share.

    Args:
        args (SimpleNamespace): Arguments of the run; 'amp', 'batch' and 'device' are read.
        device (torch.device): The first device.
        gpus (int): How many take part in each training.

    Raises:
        ValueError: If they do not go together.
    """
    if gpus > 1 and args.batch < gpus:
        raise ValueError(
            f"'batch={args.batch}' is invalid with 'device={args.device}': {gpus} GPUs share a batch. Pass a "
            f"multiple of {gpus}, i.e. batch={8 * gpus}."
        )
    if str(args.amp).lower() == "bf16":
        try:
            with autocast(torch.bfloat16, device=device.type):
                pass
        except RuntimeError as error:
            raise ValueError(
                f"'amp={args.amp}' is invalid with 'device={args.device}': {error}. Pass another 'amp'."
            ) from error


def check_cut_alone(args: Mapping[str, Any], several: Iterable[str]) -> None:
    """Refuse what follows a fine-tuning, or compares several, where 'finetune=False' leaves it out.

    Args:
        args (Mapping[str, Any]): Keys of a run, of a sweep or of a search.
        several (Iterable[str]): Those that have several values.

    Raises:
        ValueError: If there is such a key.
    """
    needs = [key for key in ("qat_epochs", "deploy") if args.get(key)] + [*several]
    needs += ["max_drop"] if args.get("max_drop") is not None else []  # of which 0 is a value
    if args.get("finetune", True) is False and needs:
        given = " and ".join(f"'{key}={args[key]}'" for key in needs)
        raise ValueError(
            f"'finetune=False' leaves out the fine-tuning, which {given} needs. Leave one of them out; files of a cut "
            "are made by yolo export."
        )


def check_freeze(freeze: int | list[int | str] | None, model: nn.Module) -> None:
    """Check that a model has the layers and modules that are to be frozen, and other layers.

    Args:
        freeze (int | list[int | str], optional): Value of 'freeze'.
        model (nn.Module): Model.

    Raises:
        ValueError: If it has not.
    """
    given = range(freeze) if isinstance(freeze, int) else freeze or ()
    frozen = {layer for layer in given if isinstance(layer, int)}
    modules = {name for name in given if isinstance(name, str)}
    if unknown := modules - {name.removeprefix("model.") for name, _ in model.named_modules()}:
        raise ValueError(
            f"'freeze={freeze}' is an invalid value. The model has no module '{min(unknown)}': names are those of its "
            "layers, i.e. '22.cv2'."
        )
    layers = len(model.model)
    if any(layer >= layers for layer in frozen) or len(frozen) >= layers:
        raise ValueError(
            f"'freeze={freeze}' is an invalid value. 'freeze' must leave some of the model's {layers} layers to train."
        )


def check_distillation(teacher: Any, distill: bool) -> None:
    """Refuse a teacher for a run that is not to distil.

    Args:
        teacher (Any): Value of 'distill_model'.
        distill (bool): Value of 'distill'.

    Raises:
        ValueError: If they contradict each other.
    """
    if teacher and not distill:
        raise ValueError(
            f"'distill_model={teacher}' contradicts 'distill=False'. Leave distill out to distil, or distill_model."
        )


def find_data(data: Any) -> str:
    """Return the data set of a run; this package's own data sets are found by their bare name.

    Args:
        data (Any): Value of 'data'.

    Returns:
        (str): The same, or the path of this package's file of that name.

    Raises:
        ValueError: If it is missing or of another type.
    """
    if not isinstance(data, (str, Path)) or not str(data):
        raise ValueError(f"'data={data}' is invalid. 'data' must name a data set, i.e. 'data=coco8.yaml'.")
    return find_dataset(data)


def check_resume_value(resume: Any, what: str) -> None:
    """Check that 'resume' is a switch or a path that exists.

    Args:
        resume (Any): Value of 'resume'.
        what (str): What the path leads to, for the message.

    Raises:
        TypeError: If it is of another type.
        FileNotFoundError: If there is nothing at the path.
    """
    if resume is None or isinstance(resume, bool):
        return
    if not isinstance(resume, (str, Path)):
        raise TypeError(
            f"'resume={resume}' is of invalid type {type(resume).__name__}. 'resume' must be True, False or {what}."
        )
    if not Path(resume).exists():
        raise FileNotFoundError(f"'resume={resume}' does not exist. 'resume' must be True, False or {what}.")
