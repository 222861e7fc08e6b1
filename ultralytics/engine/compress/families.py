# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which compressor class a model has, and whether several models can be compared in one grid."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ultralytics import YOLO
from ultralytics.engine.compress.checks.models import is_yaml, load_named
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.model import Model

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
REMEMBERED = ("data", "imgsz", "single_cls")  # arguments that a checkpoint brings along


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


def compressors_of(
    models: Sequence[str], given: Mapping[str, Any], compressor: type[Compressor] | None
) -> dict[str, type[Compressor]]:
    """Return the compressor class of each of several models, which must be such that one table can hold them.

    Args:
        models (Sequence[str]): Checkpoints and YAMLs.
        given (Mapping[str, Any]): What the caller has given, for all of them.
        compressor (type, optional): The class of all of them, if the caller has named one.

    Returns:
        (dict[str, type]): Model to its class.

    Raises:
        ValueError: If they are for several tasks, or bring along several values of what the caller has not given.
        FileNotFoundError: If there is no such file.
    """
    found: dict[str, type[Compressor]] = {}
    brought: dict[str, dict[str, Any]] = {key: {} for key in ("task", *REMEMBERED)}
    for model in models:
        if not is_yaml(model):
            load_named("model", model)  # which tells more than Ultralytics if it cannot be loaded
        yolo = YOLO(model)
        found[model] = compressor or find_compressor(yolo)
        for key, values in brought.items():
            if key in yolo.overrides:
                values.setdefault(str(yolo.overrides[key]), model)
    for key, values in brought.items():
        known = key != "task" and (given.get(key) is not None or given.get("cfg"))
        if len(values) > 1 and not known:
            (first, one), (second, other), *_ = values.items()
            remedy = "Compare models of one task" if key == "task" else f"Give {key}, which then holds for all"
            raise ValueError(f"'model={one}' has {key}={first} and 'model={other}' has {key}={second}. {remedy}.")
    return found
