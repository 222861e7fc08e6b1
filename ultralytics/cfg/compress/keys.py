# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys that the compress mode adds to those of training, with their types, ranges and choices.

Ultralytics' own tables do not know them: a run takes them off its arguments with `split`, and its own namespace of them
comes from `get_prune_cfg`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics import __version__
from ultralytics.cfg import check_dict_alignment
from ultralytics.cfg.compress.compat.files import YAML, load_mapping
from ultralytics.cfg.compress.compat.keys import FOLDER, HAS_DISTILLATION
from ultralytics.cfg.compress.names import IN_NAMES, SWEEPABLE, name_values
from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace

KEYS_FILE = Path(__file__).with_name("compress_keys.yaml")  # names, defaults and descriptions
COMPRESS_FILE = "compress.yaml"  # a run's values, beside its args.yaml
REFUSALS = (SyntaxError, TypeError, ValueError, OSError, ModuleNotFoundError)  # what checks raise
DEFAULTS: dict[str, Any] = YAML.load(KEYS_FILE)


@contextmanager
def refusing(kinds: tuple[type[Exception], ...] = REFUSALS) -> Iterator[None]:
    """Mark errors of the block as refusals of what a user has given, which need no traceback on the command line.

    Args:
        kinds (tuple[type[Exception], ...]): Errors to mark.
    """
    try:
        yield
    except kinds as error:
        error.is_refusal = True  # type: ignore[attr-defined]
        raise


def is_refusal(error: BaseException) -> bool:
    """Return True for an error that came out of a block of `refusing`."""
    return getattr(error, "is_refusal", False)


class Kind(NamedTuple):
    """Types that a key of some type takes, and what Ultralytics says of others."""

    types: tuple[type, ...]
    sentence: str


class Range(NamedTuple):
    """Which values of a key are valid."""

    holds: Callable[[Any], bool]
    text: str


KINDS = {
    float: Kind((int, float), "Valid '{k}' types are int (i.e. '{k}=0') or float (i.e. '{k}=0.5')"),
    int: Kind((int,), "'{k}' must be an int (i.e. '{k}=8')"),
    bool: Kind((bool,), "'{k}' must be a bool (i.e. '{k}=True' or '{k}=False')"),
    str: Kind((str,), "'{k}' must be a str."),
    Path: Kind((str, Path), "'{k}' must be the path of a file."),
    list: Kind((str, list, tuple), "'{k}' must be a str or a list (i.e. '{k}=onnx' or '{k}=[onnx,openvino-int8]')"),
}
TYPES = {
    **dict.fromkeys(
        ("speed_up", "target", "max_drop", "max_sparsity", "sensitivity_drop", "int8_drop", "gpu_per_trial"), float
    ),
    **dict.fromkeys(("reg", "reg_decay", "delta_reg"), float),
    **dict.fromkeys(("round_to", "iterative_steps", "prune_batches"), int),
    **dict.fromkeys(("dense_epochs", "qat_epochs", "sl_epochs", "reg_decay_step"), int),
    **dict.fromkeys(("max_failures", "grace_period"), int),
    **dict.fromkeys(("global_pruning", "sensitivity", "recalibrate", "refit", "finetune", "distill", "use_ray"), bool),
    **dict.fromkeys(("prune_method", "budget", "precision", "runner", "reg_decay_type"), str),
    **dict.fromkeys(("sl_hyp", "sl_model", "storage_path"), Path),
    "deploy": list,
}
POSITIVE = Range(lambda v: v >= 1, "must be >= 1")
MOST_STEPS = 200  # as in the article; every one of them takes gradients anew
NOT_NEGATIVE = Range(lambda v: v >= 0, "must not be negative")
RANGES = {
    "speed_up": Range(lambda v: v > 1.0, "must be greater than 1.0"),
    "target": Range(lambda v: v > 0, "must be greater than 0"),
    "max_sparsity": Range(lambda v: 0.0 < v <= 1.0, "must be greater than 0.0 and at most 1.0"),
    **dict.fromkeys(("sl_epochs", "dense_epochs", "qat_epochs"), Range(lambda v: v >= 0, "must be >= 0")),
    "iterative_steps": Range(lambda v: 1 <= v <= MOST_STEPS, f"must be from 1 to {MOST_STEPS}"),
    **dict.fromkeys(("round_to", "prune_batches", "reg_decay_step", "grace_period"), POSITIVE),
    **dict.fromkeys(("reg", "reg_decay", "delta_reg", "sensitivity_drop", "int8_drop"), NOT_NEGATIVE),
    **dict.fromkeys(("gpu_per_trial", "max_failures", "max_drop"), NOT_NEGATIVE),
}
CHOICES = {  # the tables of `ranking.methods` and `budget.costs`, which import torch-pruning
    "prune_method": (
        *("group_taylor", "lamp", "l1", "random", "group_norm", "group_hessian"),
        *("slim", "group_slim", "group_sl", "growing_reg"),
    ),
    "budget": ("flops", "onnx", "pytorch", "openvino", "ncnn", "mnn", "litert", "params", "size"),
    "precision": ("fp32", "fp16", "int8"),
    "reg_decay_type": ("constant", "linear", "step"),
}
FILE_HINT = "the answer.json of a device, see 'yolo latency'"


def split(args: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the keys of the compress mode from all others.

    Args:
        args (Mapping[str, Any]): Arguments.

    Returns:
        stock (dict[str, Any]): What Ultralytics knows.
        own (dict[str, Any]): Keys of the compress mode, unchecked.
    """
    stock = {k: v for k, v in args.items() if k not in DEFAULTS}
    return stock, {k: v for k, v in args.items() if k in DEFAULTS}


def check_names(args: Mapping[str, Any]) -> None:
    """Refuse arguments that are neither Ultralytics' nor the compress mode's, with Ultralytics' hint.

    Args:
        args (Mapping[str, Any]): Arguments.

    Raises:
        SyntaxError: If there is another one.
        ValueError: If 'distill_model' is given to an Ultralytics that cannot distil.
    """
    if args.get("distill_model") and not HAS_DISTILLATION:
        raise ValueError(
            f"'distill_model={args['distill_model']}' needs an Ultralytics that distils, and this is {__version__}. "
            "Leave distill_model out, or update Ultralytics."
        )
    check_dict_alignment({**FOLDER, **DEFAULT_CFG_DICT, **DEFAULTS}, dict(args))


def get_prune_cfg(overrides: Mapping[str, Any]) -> IterableSimpleNamespace:
    """Return all keys of the compress mode, as Ultralytics' `get_cfg` returns those of training.

    Args:
        overrides (Mapping[str, Any]): Keys of the compress mode that are not to have their default.

    Returns:
        (IterableSimpleNamespace): Checked values.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range or none of the known names.
    """
    values = {**DEFAULTS, **overrides}
    check(values)
    check_one_target(values["speed_up"], values["target"], values["max_drop"])
    return IterableSimpleNamespace(**values)


def load_cfg(file: str | Path) -> dict[str, Any]:
    """Return the arguments of a YAML; those of a compress run are in two files, its args.yaml and what lies beside.

    Its folder is not among them: it holds the results of the run that is repeated.

    Args:
        file (str | Path): File.

    Returns:
        (dict[str, Any]): Arguments, unchecked.

    Raises:
        ValueError: If the file holds no mapping.
    """
    args = load_mapping(file)
    own = Path(file).with_name(COMPRESS_FILE)
    if Path(file).name != "args.yaml" or args.get("mode") != "compress" or not own.is_file():
        return args
    return {**YAML.load(own), **{key: value for key, value in args.items() if key not in {"save_dir", "resume"}}}


def check(values: dict[str, Any]) -> None:
    """Check values of the compress mode as `check_cfg` checks those of training: whole floats become ints in place.

    Args:
        values (dict[str, Any]): Keys of the compress mode.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is not finite, out of its range or none of the known names.
    """
    for key, value in values.items():
        if key == "speed_up" and is_sweep(value):
            check_sweep({key: list(value)})
        elif value is not None:
            values[key] = _checked(key, value)
        elif DEFAULTS[key] is not None:
            raise TypeError(f"'{key}=None' is invalid. '{key}' must not be None.")


def _checked(key: str, value: Any) -> Any:
    """Return one value in its type."""
    kind = KINDS[TYPES[key]]
    if TYPES[key] is int and isinstance(value, float) and value.is_integer():  # 1e2 on the command line
        value = int(value)
    if not isinstance(value, kind.types):
        sentence = kind.sentence.format(k=key)
        raise TypeError(f"'{key}={value}' is of invalid type {type(value).__name__}. {sentence}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"'{key}={value}' is an invalid value. '{key}' must be a finite number.")
    if TYPES[key] in (str, Path) and key not in CHOICES and not str(value):
        raise ValueError(f"'{key}=' is an invalid value. '{key}' must not be empty; leave it out for none.")
    if key in RANGES and not RANGES[key].holds(value):
        raise ValueError(f"'{key}={value}' is an invalid value. '{key}' {RANGES[key].text}.")
    if key in CHOICES and value not in CHOICES[key] and not (key == "budget" and is_file(str(value))):
        also = f", or {FILE_HINT}" if key == "budget" else ""
        raise ValueError(f"'{key}={value}' is invalid. Valid '{key}' values are {', '.join(CHOICES[key])}{also}.")
    return value


def check_one_target(speed_up: Any, target: float | None, max_drop: float | None = None) -> None:
    """Refuse more than one of a cost itself, an accuracy to keep and a ratio.

    Args:
        speed_up (Any): Value of 'speed_up', which a run that is resumed has at its default.
        target (float, optional): Value of 'target'.
        max_drop (float, optional): Value of 'max_drop'.

    Raises:
        ValueError: If several are given.
    """
    ratio = None if speed_up == DEFAULTS["speed_up"] else speed_up
    ways = (
        ("target", target, "the cost itself"),
        ("max_drop", max_drop, "the accuracy"),
        ("speed_up", ratio, "the ratio"),
    )
    given = [way for way in ways if way[1] is not None]
    if len(given) > 1:
        (key, value, way), (other, also, instead) = given[:2]
        raise ValueError(f"'{key}={value}' is invalid with '{other}={also}'. Give {way} or {instead}, not both.")


def is_file(budget: str) -> bool:
    """Return True for a budget that names the file of a device."""
    return budget.lower().endswith(".json")


def is_sweep(value: Any) -> bool:
    """Return True for a list of values."""
    return isinstance(value, (list, tuple))


def read_list(key: str, value: Any) -> list | None:
    """Return the values of a key that has several, None if it has one.

    Args:
        key (str): The key.
        value (Any): Its value; the command line leaves a list of names as one string, i.e. '[lamp,l1]'.
    """
    of_names = TYPES.get(key) in (str, Path) or key in ("model", "data")
    if of_names and isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        return [name.strip(" '\"") for name in value[1:-1].split(",")]
    return list(value) if is_sweep(value) else None


def read_sweep(args: Mapping[str, Any]) -> dict[str, list]:
    """Return the keys to which several values are given.

    Args:
        args (Mapping[str, Any]): Arguments.

    Returns:
        (dict[str, list]): Key to its values, unchecked, in the order of `IN_NAMES`.
    """
    lists = {key: read_list(key, args.get(key)) for key in IN_NAMES}
    return {key: values for key, values in lists.items() if values is not None}


def check_sweep(lists: Mapping[str, list]) -> None:
    """Check what `read_sweep` has read: whole floats become ints in place, as `check` has it.

    Args:
        lists (Mapping[str, list]): Key to its values; those of training's keys are checked by their own rules before.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range, there is none, or one is there twice, or looks the same in a name.
    """
    for key, values in lists.items():
        if key in SWEEPABLE:
            values[:] = [_checked(key, value) for value in values]
        if not values or len({*name_values(key, values)}) < len(values):
            raise ValueError(
                f"'{key}={values}' is an invalid value. A sweep needs one {'target' if key == 'speed_up' else 'value'} "
                "or more, all different."
            )
