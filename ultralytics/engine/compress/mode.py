# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compress mode: from a `YOLO` object to a run, to a sweep over a grid of them, or to a search among them."""

from __future__ import annotations

import importlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ultralytics import YOLO
from ultralytics.cfg.compress.keys import check_names, load_cfg, read_sweep, refusing
from ultralytics.engine.compress.checks.models import check_model_name, is_yaml, load_named, read_yaml
from ultralytics.engine.compress.checks.training import check_training
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.reading import forget_models
from ultralytics.engine.compress.search.search import search
from ultralytics.engine.compress.sweep import sweep
from ultralytics.engine.model import Model
from ultralytics.engine.pruning.graph.heads import find_ends
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.utils import checks

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
    "YOLOWorld": {"detect": ("ultralytics.models.yolo.world.compress", "WorldCompressor")},
    "YOLOE": {  # which are YOLO detectors and segmenters once their classes are fixed
        "detect": ("ultralytics.models.yolo.detect.compress", "DetectionCompressor"),
        "segment": ("ultralytics.models.yolo.segment.compress", "SegmentationCompressor"),
    },
}


def compress_model(yolo: Model, compressor: type[Compressor] | None = None, **kwargs: Any) -> dict:
    """Compress the model of a `YOLO` object: what `YOLO.compress` and `yolo compress` do.

    Args:
        yolo (Model): Object with a .pt or .yaml model; it holds the fine-tuned model afterwards, but for a sweep, which
            leaves it as it was; of a search the one that it has found.
        compressor (type, optional): Compressor class, by default the one of the model's task.
        **kwargs (Any): Overrides of the configuration. 'name' gets '-prune' and '-finetune' appended.

    Returns:
        (dict): The report, of all cells if keys are lists, of all tries with 'max_drop'.

    Raises:
        ValueError: If such models cannot be pruned, or the object holds other weights than its file.
    """
    with refusing():
        yolo._check_is_pytorch_model()
        find_ends(stock_form(yolo.model)[0])
        compressor = compressor or find_compressor(yolo)
        args = arguments_of(yolo, kwargs)
        args |= held_weights(yolo, args)
    try:
        if args.get("max_drop") is not None:
            found = search(compressor, args, yolo.callbacks)
            hold(yolo, Path(found["weights"]))
            return found
        if read_sweep(args):
            return sweep(compressor, args, yolo.callbacks)
        args["name"] = f"{args['name']}-prune"
        run = compressor(overrides=args, _callbacks=yolo.callbacks)
        run.compress()
        best = run.finetune()
    finally:
        forget_models()
    hold(yolo, best)
    report = best.parents[1] / REPORT_FILE
    return json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}


def hold(yolo: Model, best: Path) -> None:
    """Have a `YOLO` object hold the model of a checkpoint.

    Args:
        yolo (Model): Object.
        best (Path): Fine-tuned weights.
    """
    tuned = YOLO(best)
    if not isinstance(yolo, type(tuned)):
        yolo.__class__ = type(tuned)  # a YOLOE whose classes were fixed
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
    stem = args["model"]  # the command line's yolov8n is yolov8n.pt
    args["model"] = checks.check_model_file_from_stem(stem) if isinstance(stem, (str, Path)) else stem
    check_model_name(args["model"])
    if is_yaml(args["model"]):
        read_yaml(args["model"])
    return args | {"name": str(args.get("name") or "compress"), "project": args.get("project") and str(args["project"])}


def find_compressor(yolo: Model) -> type[Compressor]:
    """Return the compressor class of a model's task, which is imported for it.

    Args:
        yolo (Model): A `YOLO` or `RTDETR` object, or one of a class derived from them.

    Returns:
        (type): Compressor class.

    Raises:
        ValueError: If there is none.
    """
    for family in type(yolo).__mro__:
        if place := COMPRESSORS.get(family.__name__, {}).get(yolo.task):
            module, name = place
            return getattr(importlib.import_module(module), name)
    raise ValueError(f"{type(yolo).__name__} models of 'task={yolo.task}' are not supported by compress.")


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
