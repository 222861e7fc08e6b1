# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a teacher computes of each batch: the features and class scores that Ultralytics' distillation reads."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ultralytics.cfg.compress.compat.modules import OBB26, Pose26, Segment26
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.latency.inference import memory_format
from ultralytics.nn.modules.head import OBB, Detect, Pose, Segment, v10Detect

HEADS = frozenset({Detect, v10Detect, OBB, OBB26, Pose, Pose26, Segment, Segment26})  # not their subclasses
UNREAD = ("cv2", "one2one_cv2", "cv4", "one2one_cv4", "proto")  # their boxes, angles, keypoints, masks
TOLERANCE = 1e-9  # of the largest value, in double precision


class Unread(nn.Module):
    """Stands for a branch whose output nobody reads: zeros with as many channels, without memory of their own.

    Attributes:
        channels (int): Channels of the branch's output.
    """

    def __init__(self, branch: nn.Module):
        """Take the place of a branch.

        Args:
            branch (nn.Module): Its last convolution says how many channels come out.
        """
        super().__init__()
        *_, last = (module for module in branch.modules() if isinstance(module, nn.Conv2d))
        self.channels = last.out_channels

    def forward(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Return zeros of the size of the input, or of the first of several."""
        first = x[0] if isinstance(x, list) else x
        return first.new_zeros(1).expand(len(first), self.channels, *first.shape[2:])


def lighten(teacher: nn.Module) -> bool:
    """Leave out what a teacher computes and its lesson does not read, where arithmetic shows that nothing else changes.

    Batch norms become part of the convolutions before them, and a stock head's branches beside the class scores are
    left out. A copy is tried first, in double precision. Memory is laid out as Ultralytics does it for predictions.

    Args:
        teacher (nn.Module): Dense model in evaluation, whose head is a `Detect`; changed in place.

    Returns:
        (bool): False if it was left as it is: it has another head, or the copy's features or scores became others.
    """
    if not any(type(module) in HEADS for module in teacher.modules()):
        return False
    trial = deepcopy(teacher).cpu().double()
    image = torch.rand(example_image(trial).shape, generator=torch.Generator().manual_seed(0)).double()
    before = [tensor.clone() for tensor in what_is_read(trial, image)]
    _shorten(trial)
    same = all(
        (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()
        for ours, theirs in zip(what_is_read(trial, image), before, strict=True)
    )
    if same:
        _shorten(teacher)
        teacher.to(memory_format=memory_format(next(teacher.parameters()).device))
    return same


def what_is_read(teacher: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return what a lesson reads: the class scores of each branch of the head, and the features before it.

    Args:
        teacher (nn.Module): Model in evaluation whose head is a `Detect`.
        images (torch.Tensor): Images, (N, C, H, W).
    """
    with torch.no_grad():
        _, predictions = teacher(images)
    return [tensor for branch in _branches(predictions) for tensor in (branch["scores"], *branch["feats"])]


def _branches(predictions: dict) -> Iterator[dict[str, torch.Tensor | list[torch.Tensor]]]:
    """Yield the predictions of a head with one branch, or of both."""
    if "scores" in predictions:
        yield predictions
    else:
        yield from (predictions["one2many"], predictions["one2one"])


def _shorten(teacher: nn.Module) -> None:
    """Fuse batch norms, and leave out the branches that are not read."""
    for module in teacher.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(conv, norm)
            conv.weight.data, conv.bias = fused.weight.data, fused.bias  # an optimizer may hold the parameter
            module.bn = nn.Identity()
    for head in [module for module in teacher.modules() if type(module) in HEADS]:
        for name in UNREAD:
            branch = getattr(head, name, None)
            if isinstance(branch, nn.ModuleList):
                setattr(head, name, nn.ModuleList(Unread(level) for level in branch))
            elif branch is not None:
                setattr(head, name, Unread(branch))
