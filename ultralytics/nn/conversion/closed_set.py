# SPDX-License-Identifier: AGPL-3.0-or-later
"""YOLOE with its classes set, as the YOLO detector or segmenter that computes the same.

A YOLOE head puts out an embedding per pixel, normalises it with a batch norm and multiplies it with the embedding of
every class. With the classes fixed that is one 1×1 convolution, which Ultralytics' own `fuse` of the head makes. What
is left is the head of a YOLOv8, YOLO11 or YOLO26 of that many classes, layer by layer.
"""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch.nn import functional as F

from ultralytics.cfg.compress.compat.modules import (
    Segment26,
    YOLOEDetect,
    YOLOEModel,
    YOLOESegment,
    YOLOESegment26,
    YOLOESegModel,
    trainable,
)
from ultralytics.nn.autobackend import check_class_names
from ultralytics.nn.extra_modules.prunable_form import blank
from ultralytics.nn.extra_modules.prunable_parts import copy_marks
from ultralytics.nn.modules.head import Detect, Segment
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

MODELS = {YOLOEModel: DetectionModel, YOLOESegModel: SegmentationModel}
HEADS = {YOLOEDetect: Detect, YOLOESegment: Segment, YOLOESegment26: Segment26}
LAYERS = {  # name in the closed head: in the open one; in the order of stock state dicts
    "cv2": "cv2",
    "cv3": "cv3",
    "dfl": "dfl",
    "one2one_cv2": "one2one_cv2",
    "one2one_cv3": "one2one_cv3",
    "proto": "proto",
    "cv4": "cv5",
    "one2one_cv4": "one2one_cv5",
}
OPEN = ("pe", "clip_model", "text_model", "criterion")  # attributes of a model that only an open one has use for
SETTINGS = ("nc", "nl", "reg_max", "no", "stride", "legacy", "nm", "npr", "inplace", "_end2end")
REMEDY = (
    "Set them and save the model: yoloe = YOLOE('yoloe-11s.pt'); names = ['person', 'bus']; "
    "yoloe.set_classes(names, yoloe.get_text_pe(names)); yoloe.save('mine.pt')."
)


def close_classes(model: YOLOEModel) -> DetectionModel:
    """Fix the classes of a YOLOE model.

    Args:
        model (YOLOEModel): Model in evaluation mode whose classes are set; its parts are used.

    Returns:
        (DetectionModel): Model of stock classes, a `SegmentationModel` for a segmenter, with equal outputs.

    Raises:
        ValueError: If it has no classes, or is prompt-free.
    """
    head = model.model[-1]
    if hasattr(head, "lrpc"):
        raise ValueError(
            f"the model is a prompt-free {type(head).__name__}, which classifies some pixels alone, and cannot "
            "be pruned. Prune the YOLOE that it was made of, with its classes set: see YOLOE.set_classes."
        )
    if not head.is_fused:
        embeddings = getattr(model, "pe", None)
        if embeddings is None:
            raise ValueError(f"the model is a {type(head).__name__} without classes. {REMEDY}")
        head.nc = embeddings.shape[1]
        head.fuse(F.normalize(embeddings.to(head.cv2[0][-1].weight.device), dim=-1))
    closed = blank(MODELS[type(model)])
    closed.__dict__.update({k: v for k, v in vars(model).items() if k not in {*OPEN, "_modules"}})
    closed.model = model.model
    closed.model[-1] = closed_head(head)
    closed.names = check_class_names(model.names)
    closed.yaml = closed_yaml(model.yaml, closed.model[-1])
    return trainable(closed)


def closed_head(head: YOLOEDetect) -> Detect:
    """Return the stock head of a YOLOE head whose class embeddings are fused.

    Args:
        head (YOLOEDetect): Head with fused embeddings.

    Returns:
        (Detect): Head of the same branches.
    """
    closed = blank(HEADS[type(head)])
    for name in SETTINGS:
        if name in vars(head):
            setattr(closed, name, getattr(head, name))
    closed.nc = next(b for b in (head.cv3, getattr(head, "one2one_cv3", None)) if b)[0][-1].out_channels
    closed.no = closed.nc + 4 * closed.reg_max
    for name, old in LAYERS.items():
        if hasattr(head, old):
            setattr(closed, name, getattr(head, old))
    semantic = getattr(getattr(head, "proto", None), "semseg", None)
    if semantic is not None:
        resize_semantic(semantic, closed.nc)
    copy_marks(head, closed).type = f"{HEADS[type(head)].__module__}.{HEADS[type(head)].__name__}"
    closed.np = sum(p.numel() for p in closed.parameters())
    return closed


def resize_semantic(layers: nn.Sequential, nc: int) -> None:
    """Give the semantic branch, which YOLOE never trains and never reads, as many classes as the others have."""
    last = layers[-1]
    if last.out_channels != nc:
        layers[-1] = nn.Conv2d(last.in_channels, nc, 1).to(last.weight)


def closed_yaml(yaml: dict, head: Detect) -> dict:
    """Return the architecture YAML of a closed model.

    Args:
        yaml (dict): That of the open one.
        head (Detect): Head of the closed model.

    Returns:
        (dict): A copy with its head.
    """
    yaml = deepcopy(yaml)
    yaml.pop("text_model", None)
    sources, repeats, _, args = yaml["head"][-1]
    masks = args[1:3] if isinstance(head, Segment) else []
    yaml["head"][-1] = [sources, repeats, type(head).__name__, ["nc", *masks]]
    yaml["nc"] = head.nc
    if "yaml_file" in yaml:
        yaml["yaml_file"] = yaml["yaml_file"].replace("yoloe-", "yolo")  # the family by whose name exports go
    return yaml
