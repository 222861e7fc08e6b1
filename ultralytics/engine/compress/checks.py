# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a compress run checks of its model and data before work begins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.cfg.compress.datasets import find_dataset
from ultralytics.engine.compress.reading import read_model
from ultralytics.engine.pruning.checkpoint.classes import class_count
from ultralytics.engine.pruning.graph.heads import find_ends
from ultralytics.nn.extra_modules.prunable import refuse_fused
from ultralytics.nn.tasks import guess_model_task, yaml_model_load
from ultralytics.utils import LOGGER


def is_yaml(model: str | Path) -> bool:
    """Return True for a model that is given as a YAML and has no weights yet."""
    return str(model).lower().endswith((".yaml", ".yml"))


def check_model(model: Any, task: str) -> str:
    """Check that a model can be compressed: a YAML that can be found, or a checkpoint with a head that is supported.

    Args:
        model (Any): Value of 'model'.
        task (str): Task of the run.

    Returns:
        (str): The YAML as it is, or the path of the checkpoint, which Ultralytics looks for in its weights folder too.

    Raises:
        ValueError: If it is missing, neither a .pt nor a YAML file, of another task or fused, or has a head that is not
            supported.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(model, (str, Path)) or not (is_yaml(model) or str(model).lower().endswith(".pt")):
        raise ValueError(f"'model={model}' is invalid. 'model' must be a trained .pt file, or a .yaml to train first.")
    found = yaml_model_load(model) if is_yaml(model) else load_named("model", model)
    if (found_task := guess_model_task(found)) != task:
        raise ValueError(
            f"'model={model}' is a model for task={found_task}, and this run is for task={task}. Use the classes of "
            "its own task, or YOLO(...).compress, which chooses them."
        )
    if is_yaml(model):
        return str(model)
    refuse_fused(found)
    find_ends(found)
    return str(found.pt_path)


def load_named(key: str, file: str | Path) -> nn.Module:
    """Return the model of a checkpoint that an argument names.

    Args:
        key (str): The argument, for the message.
        file (str | Path): Its value; Ultralytics looks in its weights folder too, and downloads what it publishes.

    Returns:
        (nn.Module): The model.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    try:
        return read_model(file)[0]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{key}={file}' does not exist. '{key}' must be a trained .pt file.") from error


def check_classes(model: nn.Module, args: SimpleNamespace, data: dict[str, Any]) -> None:
    """Check that a model can be judged by the labels of a data set.

    Args:
        model (nn.Module): The dense model.
        args (SimpleNamespace): Arguments of the run; 'data', 'model' and 'single_cls' are read.
        data (dict[str, Any]): The data set as Ultralytics has read it; 'nc' is read.

    Raises:
        ValueError: If the numbers of classes differ.
    """
    nc = class_count(model)
    if nc not in {None, data["nc"]}:
        single = ", without single_cls" if args.single_cls else ""
        raise ValueError(
            f"'data={args.data}' has {data['nc']} classes and 'model={args.model}' {nc}, which cannot be judged by its "
            f"labels. Use the data set that the model was trained on{single}, or train it on this one first."
        )


def warn_of_image_size(checkpoint: dict[str, Any], imgsz: int) -> None:
    """Warn of an image size that is not the one at which a model was trained.

    Args:
        checkpoint (dict[str, Any]): The model's checkpoint.
        imgsz (int): Image size of the run in pixels.
    """
    trained = checkpoint.get("train_args", {}).get("imgsz")
    if trained and trained != imgsz:
        LOGGER.warning(
            f"'imgsz={imgsz}' is not what the model was trained at. Pass 'imgsz={trained}', unless it is to work at "
            f"{imgsz} pixels from now on: gradients, validation and fine-tuning will."
        )


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
