# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keep a pruned architecture where Ultralytics would rebuild the dense one from its YAML."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint, without_teacher
from ultralytics.cfg.compress.compat.modules import forget_loss
from ultralytics.engine.pruning.checkpoint.classes import class_count, renew_classes
from ultralytics.engine.pruning.checkpoint.qat import float_copy
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.graph.image_size import image_channels
from ultralytics.nn.autobackend import check_class_names
from ultralytics.nn.modules.head import Pose
from ultralytics.nn.tasks import WorldModel
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import get_num_params


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
        ValueError: If the images have another number of channels than the model takes, a World model knows other
            classes, or a head of one's own would need others.
    """
    weights = without_teacher(weights)
    if weights.is_fused():  # by YOLO.fuse()
        weights, _ = load_checkpoint(weights.pt_path)
    model = float_copy(weights).float().requires_grad_(True)  # a quantization-aware training quantises it anew
    forget_loss(model)
    if (difference := differing_shape(model, data)) is not None:
        key, own, found = difference
        raise ValueError(
            f"the data set has {key}={found} and the pruned model {key}={own}: train the dense model on this data set "
            "and prune that."
        )
    if isinstance(model, WorldModel):
        check_texts(model, data["names"])
    if class_count(model) not in {None, data["nc"]}:
        renew_classes(model, data["nc"])
    if vars(args).get("cls_remap"):  # not every Ultralytics has it
        model.names = data["names"]
        model._remap_cls_by_names(weights.float().state_dict(), weights, verbose=RANK in {-1, 0})
    if RANK in {-1, 0}:
        record = Record.of(model)
        LOGGER.info(
            f"Keeping the pruned architecture: {get_num_params(model):,} parameters, "
            f"speed-up {record.reached:.2f} (budget={record.budget}) over the dense model"
        )
    return model


def differing_shape(model: nn.Module, data: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Return in what a data set does not fit a model's first or last layer, however many classes it has.

    Args:
        model (nn.Module): Model.
        data (dict[str, Any]): Data set as Ultralytics has read it.

    Returns:
        (tuple[str, Any, Any] | None): 'channels' (of the images) or 'kpt_shape', the model's and the data set's; None
            if it fits.
    """
    own: dict[str, Any] = {"channels": image_channels(model)}
    found = {"channels": data.get("channels", 3)}  # older releases read colour images alone
    if isinstance(head := model.model[-1], Pose):
        own["kpt_shape"], found["kpt_shape"] = list(head.kpt_shape), list(data["kpt_shape"])
    return next(((key, own[key], found[key]) for key in own if own[key] != found[key]), None)


def check_texts(model: WorldModel, names: dict[int, str]) -> None:
    """Check that a World model carries the embeddings of the classes of a data set, in their order.

    Args:
        model (WorldModel): Model.
        names (dict[int, str]): Names of the data set's classes.

    Raises:
        ValueError: If it knows others.
    """
    known, wanted = ([*check_class_names(own).values()] for own in (model.names, names))
    if known != wanted:
        raise ValueError(
            f"the data set has the classes {wanted} but the pruned YOLO-World carries the embeddings of {known}: prune "
            "the dense model with its classes set to those of this data set."
        )
