# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compress mode: from a `YOLO` object to a run, to a sweep over a grid of them, or to a search among them."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ultralytics import YOLO
from ultralytics.cfg.compress.keys import check_names, check_sweep, load_cfg, read_list, read_sweep, refusing
from ultralytics.engine.compress.checks.models import check_model_name, is_yaml, load_named, read_yaml
from ultralytics.engine.compress.checks.training import check_cut_alone, check_training
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.convergence import tell_of_epochs
from ultralytics.engine.compress.families import compressors_of, find_compressor
from ultralytics.engine.compress.reading import forget_models, read
from ultralytics.engine.compress.search.search import search
from ultralytics.engine.compress.sweep import sweep
from ultralytics.engine.model import Model
from ultralytics.engine.pruning.graph.heads import find_head
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.utils import checks


def compress_model(yolo: Model, compressor: type[Compressor] | None = None, **kwargs: Any) -> dict:
    """Compress the model of a `YOLO` object, or several models: what `YOLO.compress` and `yolo compress` do.

    Args:
        yolo (Model): Object with a .pt or .yaml model, of several 'model' the first; it holds the fine-tuned model
            afterwards, with 'finetune=False' the pruned one, but for a sweep, which leaves it as it was; of a search
            the one that it has found.
        compressor (type, optional): Compressor class, by default the one of the model's task.
        **kwargs (Any): Overrides of the configuration. 'name' gets '-prune' and '-finetune' appended.

    Returns:
        (dict): The report, of all cells if keys are lists, of all tries with 'max_drop'; that of the cut alone with
            'finetune=False'.

    Raises:
        TypeError: If the compressor is none.
        ValueError: If such models cannot be pruned, or the object holds other weights than its file.
    """
    with refusing():
        check_compressor(compressor)
        yolo._check_is_pytorch_model()
        find_head(stock_form(yolo.model)[0])
        own = compressor or find_compressor(yolo)
        args = arguments_of(yolo, kwargs)
        check_cut_alone(args, read_sweep(args))
        if isinstance(args["model"], list):
            check_object(yolo, args)
            compressors = compressors_of(args["model"], kwargs, compressor)
        else:
            args |= held_weights(yolo, args)
            compressors = {str(args["model"]): own}
    try:
        if args.get("max_drop") is not None:
            found = search(own, args, yolo.callbacks)
            hold(yolo, Path(found["weights"]))
            return found
        if read_sweep(args):
            return sweep(compressors, args, yolo.callbacks)
        args["name"] = f"{args['name']}-prune"
        run = own(overrides=args, _callbacks=yolo.callbacks)
        if run.prune_args.finetune and not is_yaml(run.args.model):  # tries of a search may well be short
            tell_of_epochs(read(run.args.model).checkpoint, run.args.epochs)
        run.compress()
        best = run.finetune() if run.prune_args.finetune else run.pruned
    finally:
        forget_models()
    hold(yolo, best)
    report = best.parents[1] / REPORT_FILE
    return json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}


def check_compressor(compressor: Any) -> None:
    """Check the class of a run.

    Args:
        compressor (Any): Value of 'compressor', None for the one of the model's task.

    Raises:
        TypeError: If it is no compressor class.
    """
    if compressor is not None and not (isinstance(compressor, type) and issubclass(compressor, Compressor)):
        raise TypeError(
            f"'compressor={compressor}' is invalid. 'compressor' must be a subclass of a task's compressor, i.e. of "
            "ultralytics.models.yolo.detect.compress.DetectionCompressor."
        )


def hold(yolo: Model, best: Path) -> None:
    """Have a `YOLO` object hold the model of a checkpoint.

    Args:
        yolo (Model): Object.
        best (Path): Fine-tuned weights.
    """
    tuned = YOLO(best)
    if type(tuned.model) is not type(yolo.model):
        yolo.__class__ = type(tuned)  # a YOLOE whose classes were fixed; older releases know YOLOWorld by a file's name
    yolo.model, yolo.ckpt = tuned.model, tuned.ckpt
    yolo.ckpt_path, yolo.predictor = str(best), None
    yolo.overrides = {**yolo._reset_ckpt_args(yolo.model.args), "model": str(best)}


def arguments_of(yolo: Model, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a run of a `YOLO` object.

    Args:
        yolo (Model): Object with a .pt or .yaml model.
        given (dict[str, Any]): What the caller has given; a 'cfg' among it holds those that are not.

    Returns:
        (dict[str, Any]): Arguments; 'model', 'name' and 'project' are checked.

    Raises:
        SyntaxError: If there is no such key.
        FileNotFoundError: If 'cfg' does not exist.
        ValueError: If a value is not valid.
    """
    check_names(given)
    args = load_cfg(checks.check_yaml(given["cfg"])) if given.get("cfg") else yolo.overrides
    args = {**args, "model": yolo.overrides["model"], "task": yolo.task, **{k: given[k] for k in given if k != "cfg"}}
    check_training({key: args.get(key) for key in ("name", "project")})
    several = read_list("model", args["model"])
    if several is not None:
        check_sweep({"model": several})
    args["model"] = named_model(args["model"]) if several is None else [str(named_model(model)) for model in several]
    place = {key: None if args.get(key) is None else str(args[key]) for key in ("name", "project")}  # 0 is a name, too
    return args | {**place, "name": place["name"] or "compress"}


def named_model(model: Any) -> Any:
    """Return a value of 'model', checked; the command line's yolov8n is yolov8n.pt."""
    model = checks.check_model_file_from_stem(model) if isinstance(model, (str, Path)) else model
    check_model_name(model)
    if is_yaml(model):
        read_yaml(model)
    return model


def loaded_file(yolo: Model) -> str | Path | None:
    """Return the file whose weights were loaded into a model of a YAML; None if what it holds came otherwise.

    Args:
        yolo (Model): Object of a YAML. Older releases note the file among its overrides, and keep it there when other
            weights are loaded afterwards.
    """
    noted = yolo.overrides.get("pretrained")
    if yolo.ckpt_path or not isinstance(noted, (str, Path)):
        return yolo.ckpt_path
    held, loaded = (m.float().state_dict() for m in (deepcopy(yolo.model), load_named("pretrained", noted)))
    taken = [name for name, value in loaded.items() if name in held and held[name].shape == value.shape]
    return noted if all(torch.equal(held[name].cpu(), loaded[name]) for name in taken) else None


def held_weights(yolo: Model, args: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a run begin with the weights that a `YOLO` object holds.

    Args:
        yolo (Model): Object, possibly after `load`.
        args (dict): Arguments of the run.

    Returns:
        (dict): 'pretrained' for the base training of a YAML, if weights were loaded into it; else nothing.

    Raises:
        ValueError: If there is no file with these weights.
    """
    if is_yaml(args["model"]):
        if not yolo.ckpt:
            return {}
        if source := loaded_file(yolo):
            wanted = args.get("pretrained", True)
            return {"pretrained": source if wanted is True else wanted}
        same = False
    else:
        held, file = (m.state_dict() for m in (stock_form(yolo.model)[0], load_named("model", args["model"])))
        fused = held.keys() != file.keys()  # by a prediction, from the same weights
        same = fused or all(torch.equal(held[k].cpu().to(v.dtype), v) for k, v in file.items())
    if not same:
        raise ValueError(
            f"the object holds other weights than 'model={args['model']}', and compress reads the file. Save them with "
            "model.save('mine.pt') and compress YOLO('mine.pt')."
        )
    return {}


def check_object(yolo: Model, args: dict[str, Any]) -> None:
    """Check that a `YOLO` object holds one of the models of a sweep over several, as it is in its file.

    Args:
        yolo (Model): Object, possibly after `load`.
        args (dict): Arguments; 'model' is a list.

    Raises:
        ValueError: If it does not.
    """
    own = str(named_model(yolo.overrides["model"]))
    if own not in args["model"]:
        raise ValueError(
            f"'model={args['model']}' leaves out 'model={own}', which the object holds. Begin with YOLO('"
            f"{args['model'][0]}'), or add it."
        )
    if held_weights(yolo, {**args, "model": own}):
        raise ValueError(
            f"the object holds weights that were loaded into 'model={own}', and a sweep over models reads files. Name "
            "the file as 'pretrained', or leave the other models out."
        )
