# SPDX-License-Identifier: AGPL-3.0-or-later
"""Layers and models that not every Ultralytics has."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from ultralytics.nn import tasks
from ultralytics.nn.modules import block, head


def find_class(module: ModuleType, name: str) -> Any:
    """Return a class of layers or models, or one that nothing is an instance of."""
    return getattr(module, name, None) or type(name, (nn.Module,), {"__doc__": "This Ultralytics has no such layer."})


def forget_loss(model: nn.Module) -> None:
    """Have a model build its loss anew when it needs one; older ones of some kinds do so only without the attribute."""
    if hasattr(model, "criterion"):
        del model.criterion


def trainable(model: nn.Module) -> nn.Module:
    """Return a model whose parameters can be trained, also those that older releases have fused in inference mode."""
    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            if parameter.is_inference():
                setattr(module, name, nn.Parameter(parameter.clone()))
    return model.requires_grad_(True)


AAttn = find_class(block, "AAttn")
A2C2f = find_class(block, "A2C2f")
Proto26 = find_class(block, "Proto26")
Depth = find_class(head, "Depth")
OBB26 = find_class(head, "OBB26")
Pose26 = find_class(head, "Pose26")
SemanticSegment = find_class(head, "SemanticSegment")
Segment26 = find_class(head, "Segment26")
YOLOEDetect = find_class(head, "YOLOEDetect")
YOLOESegment = find_class(head, "YOLOESegment")
YOLOESegment26 = find_class(head, "YOLOESegment26")
YOLOEModel = find_class(tasks, "YOLOEModel")
YOLOESegModel = find_class(tasks, "YOLOESegModel")
