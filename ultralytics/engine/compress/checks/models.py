# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checks of the models that arguments name: dense or pruned model, teacher, pretrained weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import student_of
from ultralytics.cfg.compress.keys import is_refusal
from ultralytics.engine.compress.reading import read, read_model
from ultralytics.engine.pruning.checkpoint.architecture import differing_shape
from ultralytics.engine.pruning.checkpoint.classes import class_count
from ultralytics.engine.pruning.checkpoint.finite import check_finite
from ultralytics.engine.pruning.checkpoint.marks import is_pruned
from ultralytics.engine.pruning.checkpoint.names import absent_classes
from ultralytics.engine.pruning.checkpoint.qat import refuse_qat
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.checkpoint.releases import NeedsNewerUltralyticsError
from ultralytics.engine.pruning.graph.heads import find_head
from ultralytics.nn.autobackend import check_class_names
from ultralytics.nn.extra_modules.prunable import refuse_derived
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import WorldModel, guess_model_task, yaml_model_load
from ultralytics.utils import LOGGER

REMEDY = {  # argument: what it must be, in messages
    "model": "a trained .pt file, or a .yaml to train first",
    "distill_model": "a trained .pt file",
    "pretrained": "True, False or a trained .pt file",
    "sl_model": "a .pt file of a sparsity training",
    "resume": "True, False or the last.pt of a training",
}
SHOWN = 3  # missing classes, in messages
OPEN_HEADS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")


def is_yaml(model: str | Path) -> bool:
    """Return True for a model that is given as a YAML and has no weights yet."""
    return str(model).lower().endswith((".yaml", ".yml"))


def check_model_name(model: Any) -> None:
    """Check that 'model' names a checkpoint or a YAML.

    Args:
        model (Any): Value of 'model'.

    Raises:
        ValueError: If it does not.
    """
    if not isinstance(model, (str, Path)) or not (is_yaml(model) or str(model).lower().endswith(".pt")):
        raise ValueError(f"'model={model}' is invalid. 'model' must be {REMEDY['model']}.")


def check_model(model: Any, task: str, gives_texts: bool = False) -> tuple[str, nn.Module | None]:
    """Check that a model can be compressed: a YAML that can be found, or a checkpoint with a head that is supported.

    Args:
        model (Any): Value of 'model'.
        task (str): Task of the run.
        gives_texts (bool): Its trainers give World models the embeddings of their classes.

    Returns:
        name (str): The YAML as it is, or the path of the checkpoint, which Ultralytics looks for in its weights folder
            too.
        loaded (nn.Module | None): The model of the checkpoint.

    Raises:
        ValueError: If it is missing, neither a .pt nor a YAML file, of another task or kind, fused or quantised, or has
            weights that are not finite or a head that is not supported.
        FileNotFoundError: If there is no such file.
    """
    check_model_name(model)
    loaded = None if is_yaml(model) else load_named("model", model)
    refuse_pair(loaded, f"'model={model}'")
    found_task = guess_model_task(read_yaml(model) if loaded is None else loaded)
    if found_task != task:
        raise ValueError(
            f"'model={model}' is a model for task={found_task}, and this run is for task={task}. Use the classes of "
            "its own task, or YOLO(...).compress, which chooses them."
        )
    if loaded is None:
        return str(model), None
    refuse_qat(loaded, f"'model={model}'")
    if is_pruned(loaded):
        Record.of(loaded)  # which may come from anybody
    if isinstance(loaded, WorldModel) and not gives_texts:
        raise ValueError(
            f"'model={model}' is a YOLO-World model. Use WorldCompressor and WorldFinetune of "
            "ultralytics.models.yolo.world.compress, or YOLOWorld(...).compress, which chooses them."
        )
    refuse_derived(loaded)
    find_head(loaded)
    return str(loaded.pt_path), loaded


def read_yaml(model: str | Path) -> dict[str, Any]:
    """Return the architecture of a YAML model, as Ultralytics' `yaml_model_load` does.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no architecture, or one whose classes are open.
    """
    try:
        found = yaml_model_load(model)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'model={model}' does not exist. 'model' must be {REMEDY['model']}.") from error
    except (AttributeError, OSError, TypeError, ValueError) as error:  # not a mapping, a folder, not YAML
        raise ValueError(f"'model={model}' is invalid: {error}. 'model' must be {REMEDY['model']}.") from error
    if missing := [key for key in ("backbone", "head") if not isinstance(found.get(key), list)]:
        raise ValueError(
            f"'model={model}' is invalid: it has no list '{missing[0]}'. 'model' must be {REMEDY['model']}."
        )
    blocks = [row[2] for row in found["head"] if isinstance(row, list) and len(row) > 2]
    if heads := [name for name in OPEN_HEADS if name in blocks]:
        raise ValueError(
            f"'model={model}' has a {heads[0]}, which knows its classes by embeddings of their names: a YAML has none. "
            "Train it with 'yolo train', or set the classes of a .pt file and save it, and compress that."
        )
    return found


def load_named(key: str, file: Any) -> nn.Module:
    """Return the model of a checkpoint that an argument names.

    Args:
        key (str): The argument, for the message.
        file (str | Path): Its value; Ultralytics looks in its weights folder too, and downloads what it publishes.

    Returns:
        (nn.Module): The model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of a model, or holds classes that are not here or weights that are not
            finite, or has no form that can be pruned.
    """
    return load_named_checkpoint(key, file)[0]


def load_named_checkpoint(key: str, file: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return model and checkpoint, as Ultralytics' `load_checkpoint` does; see `load_named`."""
    named = f"'{key}={file}'"
    if not isinstance(file, (str, Path)) or not str(file).lower().endswith(".pt"):
        raise ValueError(f"{named} is invalid. '{key}' must be {REMEDY[key]}.")
    if Path(file).exists() and not Path(file).is_file():  # a device, for example, that never ends
        raise ValueError(f"{named} is no file. '{key}' must be {REMEDY[key]}.")
    if Path(file).is_file() and any(mark in str(Path(file).resolve()) for mark in "'?"):
        raise ValueError(f"{named} has a quote or a '?' in its path, which Ultralytics cannot load. Rename it.")
    try:
        model, checkpoint = read_model(file)
    except OSError as error:  # older releases answer with the failed download
        if Path(file).is_file():
            raise
        raise FileNotFoundError(f"{named} does not exist. '{key}' must be {REMEDY[key]}.") from error
    except NeedsNewerUltralyticsError:
        raise
    except (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError) as error:
        if is_refusal(error):
            raise ValueError(f"{named} cannot be compressed: {error}") from error
        if isinstance(error, (AttributeError, ImportError)) and (absent := absent_classes(file)):
            more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            raise ValueError(
                f"{named} has classes that are not here: {', '.join(absent[:SHOWN])}{more}. Compress it where they "
                "are: in the fork of Ultralytics that trained it, into which 'python -m ultralytics_compress_drop_in "
                "FORK' puts this package, or with the file that defines them on PYTHONPATH."
            ) from error
        if isinstance(error, ImportError):  # in the file of somebody's block
            raise ValueError(f"{named} cannot be loaded: {error}.") from error
        # whatever the file holds instead
        raise ValueError(f"{named} is no checkpoint of an Ultralytics model. '{key}' must be {REMEDY[key]}.") from error
    if key in {"distill_model", "sl_model"}:
        refuse_foreign(key, file)
    check_finite(model, named)
    return model, checkpoint


def refuse_pair(model: nn.Module | None, named: str) -> None:
    """Refuse the checkpoint of a distillation that was stopped, which holds student and teacher.

    Args:
        model (nn.Module, optional): Its model.
        named (str): The argument and its value, for the message.

    Raises:
        ValueError: If it is one.
    """
    if model is not None and student_of(model) is not model:
        raise ValueError(
            f"{named} is of a distillation that was stopped. Resume it, and use its best.pt when it has ended."
        )


def refuse_foreign(key: str, file: str | Path) -> None:
    """Refuse a checkpoint that would be converted, where stock Ultralytics reads it by itself.

    Args:
        key (str): The argument, for the message.
        file (str | Path): Its value.

    Raises:
        ValueError: If it is such a checkpoint.
    """
    if read(file).note:
        raise ValueError(
            f"'{key}={file}' is converted before it is pruned. Use the weights/dense.pt that a compress run leaves."
        )


def check_teacher(teacher: Any, student: nn.Module | None, task: str) -> None:
    """Check a model that is to be distilled.

    Args:
        teacher (Any): Value of 'distill_model'.
        student (nn.Module, optional): The model that learns from it; its dense form does as well.
        task (str): Task of the run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, of another task, or Ultralytics cannot distil it into the student.
    """
    model = load_named("distill_model", teacher)
    refuse_pair(model, f"'distill_model={teacher}'")
    head = model.model[-1]
    if (found := guess_model_task(model)) != task or not isinstance(head, Detect):
        raise ValueError(
            f"'distill_model={teacher}' is a {type(head).__name__} model for task={found}. 'distill_model' must have a "
            f"Detect head and be for task={task}, as the model itself."
        )
    if student is None:
        return
    levels, taught = (len(getattr(m.model[-1], "stride", ())) for m in (model, student))
    classes, known = class_count(model), class_count(student)
    if (levels, classes) != (taught, known):
        raise ValueError(
            f"'distill_model={teacher}' predicts {classes} classes at {levels} strides, and the model {known} at "
            f"{taught}. 'distill_model' must be a trained .pt file of the same family and data set."
        )


def check_classes(model: nn.Module, args: SimpleNamespace, data: dict[str, Any]) -> None:
    """Check that a model can be judged by the labels of a data set.

    Args:
        model (nn.Module): The dense model.
        args (SimpleNamespace): Arguments of the run; 'data', 'model' and 'single_cls' are read.
        data (dict[str, Any]): The data set as Ultralytics has read it; 'nc', 'names', 'channels' and 'kpt_shape' are
            read.

    Raises:
        ValueError: If the numbers of classes, of the images' channels or of keypoints differ, or the names of a model
            that knows its classes by their names.
    """
    if (difference := differing_shape(model, data)) is not None:
        key, own, found = difference
        raise ValueError(
            f"'data={args.data}' has {key}={found} and 'model={args.model}' {key}={own}. Use the data set that the "
            "model was trained on, or train it on this one first."
        )
    nc = class_count(model)
    if nc not in {None, data["nc"]}:
        single = ", without single_cls" if args.single_cls else ""
        raise ValueError(
            f"'data={args.data}' has {data['nc']} classes and 'model={args.model}' {nc}, which cannot be judged by its "
            f"labels. Use the data set that the model was trained on{single}, or train it on this one first."
        )
    names = (check_class_names(names).values() for names in (model.names, data["names"]))
    known, wanted = ([name.split("/", 1)[0] for name in own] for own in names)  # as validators have them
    if known != wanted and read(args.model).open_set:
        raise ValueError(
            f"'model={args.model}' knows the classes {known}, by the embeddings of their names, and 'data={args.data}' "
            f"has {wanted}. Set those classes, in this order, with set_classes, and save the model."
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
