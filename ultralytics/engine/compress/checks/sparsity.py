# SPDX-License-Identifier: AGPL-3.0-or-later
"""Settings of the sparsity training, checked before any work: which method needs it, with which hyperparameters."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.cfg import check_cfg
from ultralytics.cfg.compress.compat.files import load_mapping
from ultralytics.cfg.compress.keys import check, check_names, split
from ultralytics.engine.compress.checks.models import is_yaml, load_named
from ultralytics.engine.compress.checks.training import check_training
from ultralytics.engine.pruning.checkpoint.qat import refuse_qat
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import LOGGER, colorstr

SL_HYP = Path(__file__).resolve().parents[3] / "cfg" / "hyp.scratch.sl.yaml"
OF_THE_RUN = {  # keys that the run decides on, and how to give them
    **dict.fromkeys(
        ("model", "data", "task", "mode", "project", "name", "exist_ok", "save_dir", "resume"), "to the run"
    ),
    "epochs": "as 'sl_epochs'",
    "pretrained": "to the run",
    "distill_model": "to the run, whose fine-tuning distils",
    "quantize": "to the run, whose fine-tuning quantises",
}
OF_THE_REGULARISER = {"reg", "reg_decay", "reg_decay_type", "reg_decay_step", "delta_reg"}
SAME_ARCHITECTURE = ("backbone", "head", "scale", "width_multiple", "depth_multiple")  # of a model's YAML


def needs_sparsity(args: SimpleNamespace) -> bool:
    """Return True if the run's method ranks what a sparsity training has left."""
    return METHODS[args.prune_method].regulariser is not None


def check_sparsity(args: SimpleNamespace, model: str | Path, dense: nn.Module | None) -> None:
    """Check the keys of the sparsity training against each other and against their files.

    Args:
        args (SimpleNamespace): Keys of the compress mode, each of them valid by itself.
        model (str | Path): The model that is to be pruned.
        dense (nn.Module, optional): The same, if it is no YAML.

    Raises:
        ValueError: If a method that needs sparsity training would get none, or 'sl_model' is no such model.
        FileNotFoundError: If 'sl_hyp' or 'sl_model' does not exist.
        SyntaxError: If 'sl_hyp' holds a key that is none of training's.
    """
    if not needs_sparsity(args):
        if args.sl_epochs or args.sl_model:
            LOGGER.warning(
                f"prune_method={args.prune_method} needs no sparsity training: "
                f"sl_epochs={args.sl_epochs} and sl_model={args.sl_model} are not used"
            )
        return
    sl_hyperparameters(args.sl_hyp)
    if METHODS[args.prune_method].trains_towards_target and args.sensitivity_drop is not None:
        raise ValueError(
            f"'sensitivity_drop={args.sensitivity_drop}' does not go with 'prune_method={args.prune_method}', which "
            "chooses the channels before its sparsity training, when their sensitivity is not known yet. Leave it out, "
            "or choose another method."
        )
    if args.sl_model:
        _check_sl_model(args.sl_model, model, dense)
    elif not args.sl_epochs:
        raise ValueError(
            f"'prune_method={args.prune_method}' needs sparsity training but 'sl_epochs={args.sl_epochs}'. Set "
            "sl_epochs, pass a sparsified checkpoint as sl_model, or choose a method without, i.e. prune_method=lamp."
        )


def sl_hyperparameters(sl_hyp: Any) -> dict[str, Any]:
    """Return the training keys that hold in the sparsity training only.

    Args:
        sl_hyp (str | Path, optional): YAML file; by default the one that comes with this package, which is also found
            by its name alone.

    Returns:
        (dict[str, Any]): Training keys and values.

    Raises:
        FileNotFoundError: If there is no such file.
        SyntaxError: If a key is not one of training's.
        ValueError: If it is not a mapping, or a value is out of range.
        TypeError: If a value is of the wrong type.
    """
    file = SL_HYP if sl_hyp is None else Path(sl_hyp)
    if not file.is_file() and PureWindowsPath(file).name == SL_HYP.name:  # of a script from Windows, too
        file = SL_HYP
    if not file.is_file():
        raise FileNotFoundError(f"'sl_hyp={sl_hyp}' does not exist. 'sl_hyp' must be a YAML file of training keys.")
    if not is_yaml(file):
        raise ValueError(f"'sl_hyp={sl_hyp}' is invalid. 'sl_hyp' must be a YAML file of training keys.")
    try:
        hyp = load_mapping(file)
        check_names(hyp)
        stock, own = split(hyp)
        _check_owner(hyp, own)
        check_cfg(stock)
        check_training(stock)
        check(own)
    except (SyntaxError, TypeError, ValueError) as error:
        raise type(error)(f"'sl_hyp={file}' is invalid: {error}") from error
    return {**stock, **own}


def _check_owner(hyp: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse an empty file, and keys that belong to the run and not to its sparsity training."""
    if not hyp:
        raise ValueError("the file holds no key. Leave 'sl_hyp' out for the values of this package")
    others = {**OF_THE_RUN, **dict.fromkeys(own.keys() - OF_THE_REGULARISER, "to the run")}
    if key := next((key for key in hyp if key in others), None):
        raise ValueError(f"'{key}' is no setting of the sparsity training. Give it {others[key]}")


def _check_sl_model(sl_model: Any, model: str | Path, dense: nn.Module | None) -> None:
    """Check that a sparsified checkpoint has the architecture of the model that is to be pruned."""
    sparse = load_named("sl_model", sl_model)
    refuse_qat(sparse, f"'sl_model={sl_model}'")
    if dense is not None:
        same = shapes(sparse) == shapes(dense)
    else:
        same = all(sparse.yaml.get(k) == yaml_model_load(model).get(k) for k in SAME_ARCHITECTURE)
    if not same:
        raise ValueError(
            f"'sl_model={sl_model}' is of another architecture than 'model={model}'. Pass the result of a sparsity "
            "training of this model, or leave sl_model out and set sl_epochs."
        )
    LOGGER.info(f"{colorstr('compress:')} pruning {sl_model}, no sparsity training")


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a model."""
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}
