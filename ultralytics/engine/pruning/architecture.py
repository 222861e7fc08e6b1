# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keep a pruned architecture where Ultralytics would rebuild the dense one from its YAML."""

from __future__ import annotations

import math
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.engine.pruning.checkpoint import NOT_FROM_YAML, RECORD
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import get_num_params


def is_pruned(model: Any) -> bool:
    """Return True for a model that came out of a pruned checkpoint."""
    return isinstance(getattr(model, RECORD, None), dict)


def has_pruned_yaml(cfg: Any) -> bool:
    """Return True for the architecture YAML that a pruned model carries, from which nothing can be built."""
    return isinstance(cfg, dict) and cfg["backbone"][0][2] == NOT_FROM_YAML


def keep_architecture(weights: nn.Module, data: dict, args: SimpleNamespace) -> nn.Module:
    """Return a copy of a pruned model, ready to be trained on a data set.

    Args:
        weights (nn.Module): Pruned model.
        data (dict): Data set as Ultralytics' `check_det_dataset` returns it; 'nc', 'names' and 'channels' are read.
        args (SimpleNamespace): Arguments of the training; 'cls_remap' is read.

    Returns:
        (nn.Module): Copy with FP32 weights. With another number of classes, the last convolutions of the class
            branches are new at their pruned input width, and take over the rows of classes with the same name.

    Raises:
        ValueError: If the images have another number of channels than the model takes.
    """
    if weights.is_fused():  # validating or predicting with a YOLO object fuses the model that it holds
        weights, _ = load_checkpoint(weights.pt_path)
    model = deepcopy(weights).float().requires_grad_(True)
    model.criterion = None
    image_channels = model.yaml.get("channels", 3)
    if data["channels"] != image_channels:
        raise ValueError(
            f"the data set's images have channels={data['channels']} but the pruned model takes {image_channels}: "
            "train the dense model on this data set and prune that."
        )
    if data["nc"] != model.model[-1].nc:
        _renew_class_head(model, data["nc"])
    if args.cls_remap:
        model.names = data["names"]
        model._remap_cls_by_names(weights.float().state_dict(), weights, verbose=RANK in {-1, 0})
    if RANK in {-1, 0}:
        LOGGER.info(
            f"Keeping the pruned architecture: {get_num_params(model):,} parameters, "
            f"speed-up {getattr(model, RECORD)['reached']:.2f} in FLOPs over the dense model"
        )
    return model


def _renew_class_head(model: nn.Module, nc: int) -> None:
    """Put in new last convolutions of the class branches, for `nc` classes at their present input width."""
    head = model.model[-1]
    for branches in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
        for branch, stride in zip(branches, head.stride.tolist()):
            branch[-1] = nn.Conv2d(branch[-1].in_channels, nc, 1)
            # Ultralytics' start for class biases: about 5 objects in an image of 640 pixels
            nn.init.constant_(branch[-1].bias, math.log(5 / nc / (640 / stride) ** 2))
    head.no += nc - head.nc
    head.nc = model.yaml["nc"] = nc
    model.names = {i: f"{i}" for i in range(nc)}
