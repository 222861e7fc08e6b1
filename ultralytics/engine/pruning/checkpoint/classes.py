# SPDX-License-Identifier: AGPL-3.0-or-later
"""The number of object classes of a pruned model, and a new one: its head cannot be rebuilt from a YAML."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.modules import Depth, Proto26, SemanticSegment
from ultralytics.nn.modules.head import Classify, Detect, RTDETRDecoder, Segment


def class_count(model: nn.Module) -> int | None:
    """Return how many classes a model predicts, None for one without classes."""
    head = model.model[-1]
    if isinstance(head, Depth):
        return None
    return head.linear.out_features if isinstance(head, Classify) else head.nc


def renew_classes(model: nn.Module, nc: int) -> None:
    """Put in new last layers of the class branches, at their present input width.

    Args:
        model (nn.Module): Pruned model.
        nc (int): Number of classes.

    Raises:
        ValueError: If it has a head of one's own, of which only its author knows where its classes are.
    """
    head = model.model[-1]
    renew = next((renew for kind, renew in RENEW.items() if isinstance(head, kind)), None)
    if renew is None or (isinstance(head, Detect) and not ends_in_classes(head)):
        raise ValueError(
            f"the data set has {nc} classes and the pruned model {head.nc}, and its head {type(head).__name__} has "
            "none of the class branches of a Detect: train the dense model on this data set and prune that."
        )
    renew(head, nc)
    model.yaml["nc"] = nc
    model.names = {i: f"{i}" for i in range(nc)}


def ends_in_classes(head: Detect) -> bool:
    """Return True if every class branch of a detection head ends in a convolution with an output for each class."""
    lists = class_branches(head)
    return all(isinstance(branches, nn.ModuleList) for branches in lists) and all(
        isinstance(branch, nn.Sequential) and getattr(branch[-1], "out_channels", None) == head.nc
        for branches in lists
        for branch in branches
    )


def class_branches(head: Detect) -> list[Any]:
    """Return the list of class branches of a detection head, None if it has none, and of those one to one."""
    return [getattr(head, "cv3", None), getattr(head, "one2one_cv3", None) or nn.ModuleList()]


def renew_detect(head: Detect, nc: int) -> None:
    """Renew the class branches of a detection head."""
    for branches in class_branches(head):
        for branch, stride in zip(branches, head.stride.tolist()):
            branch[-1] = nn.Conv2d(branch[-1].in_channels, nc, 1)
            # Ultralytics' start for class biases: about 5 objects in an image of 640 pixels
            nn.init.constant_(branch[-1].bias, math.log(5 / nc / (640 / stride) ** 2))
    if isinstance(head, Segment) and isinstance(head.proto, Proto26):
        head.proto.semseg[-1] = nn.Conv2d(head.proto.semseg[-1].in_channels, nc, 1)
    head.no += nc - head.nc
    head.nc = nc


def renew_classify(head: Classify, nc: int) -> None:
    """Renew the linear layer of a classification head."""
    head.linear = nn.Linear(head.linear.in_features, nc)


def renew_semantic(head: nn.Module, nc: int) -> None:
    """Renew the classifiers of a semantic segmentation head."""
    for branch in (head.classifier, head.aux_head):
        if branch is not None:
            branch[-1] = nn.Conv2d(branch[-1].in_channels, nc, 1)
    head.nc = nc


def renew_decoder(head: RTDETRDecoder, nc: int) -> None:
    """Renew the scores of a decoder and the classes that its denoising embeds."""
    width = head.hidden_dim
    head.enc_score_head = nn.Linear(width, nc)
    head.dec_score_head = nn.ModuleList(nn.Linear(width, nc) for _ in head.dec_score_head)
    head.denoising_class_embed = nn.Embedding(nc, width)
    bias = -math.log((1 - 0.01) / 0.01) / 80 * nc  # Ultralytics' start for the decoder's scores
    for layer in (head.enc_score_head, *head.dec_score_head):
        nn.init.constant_(layer.bias, bias)
    head.nc = nc


RENEW: dict[type, Callable[[nn.Module, int], None]] = {
    Detect: renew_detect,
    Classify: renew_classify,
    SemanticSegment: renew_semantic,
    RTDETRDecoder: renew_decoder,
}
