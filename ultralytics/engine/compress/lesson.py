# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a teacher computes of each batch: no more than Ultralytics' distillation reads of it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ultralytics.cfg.compress.compat.training import items_of
from ultralytics.engine.pruning.graph.heads import DETECTORS
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.mode import FAILURES
from ultralytics.engine.pruning.latency.inference import memory_format
from ultralytics.nn.modules.head import WorldDetect

HEADS = DETECTORS - {WorldDetect}  # not their subclasses
UNREAD = ("cv2", "one2one_cv2", "cv4", "one2one_cv4", "proto")  # their boxes, angles, keypoints, masks
TOLERANCE = 1e-6  # of the lesson's loss, which Ultralytics adds up in single precision


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


def lighten(pair: Any) -> bool:
    """Leave out what a teacher computes and its lesson does not read, where arithmetic shows that the lesson stays.

    Batch norms become part of the convolutions before them, and a stock head's branches beside the class scores are
    left out. On a CPU memory is laid out as Ultralytics does it for predictions. A copy is tried first, in double
    precision.

    Args:
        pair (DistillationModel): Teacher and student; the teacher is changed in place.

    Returns:
        (bool): False if the teacher was left as it is: it has a head of another kind, or the copy failed, or its lesson
            became another one.
    """
    if not any(type(module) in HEADS for module in pair.teacher_model.modules()):
        return False
    layout = memory_format(next(pair.teacher_model.parameters()).device)
    trial = deepcopy(pair).cpu().double().train()
    trial.dis = 1.0
    try:
        shape = example_image(trial.teacher_model).shape[1:]
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).double()
        before = lesson(trial, images).item()
        _shorten(trial.teacher_model, layout)
        same = 0 < before < torch.inf and abs(lesson(trial, images).item() - before) <= TOLERANCE * before
    except FAILURES:  # of a network of the user's own, in double precision, at that size or in that layout
        return False
    if same:
        _shorten(pair.teacher_model, layout)
    return same


def lesson(pair: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the loss of a lesson alone, without the student's own loss, which the pair loses for good.

    Args:
        pair (DistillationModel): Teacher and student in training.
        images (torch.Tensor): Images, (N, C, H, W).

    Returns:
        (torch.Tensor): The loss, of shape ().
    """
    nothing = images.new_zeros(1)
    pair.student_model.loss = lambda *_: (nothing, items_of(pair, nothing))
    return pair.loss({"img": images})[0].sum()


def _shorten(teacher: nn.Module, layout: torch.memory_format) -> None:
    """Fuse batch norms, leave out the branches that are not read, and lay out memory if that is not the default."""
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
    if layout is not torch.contiguous_format:
        teacher.to(memory_format=layout)
