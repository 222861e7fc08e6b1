# SPDX-License-Identifier: AGPL-3.0-or-later
"""The convolutions that are timed are those of the deployed model."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.engine.pruning.latency.shapes import conv_shapes


def calls(model):
    """Return how many convolutions that are timed one forward pass runs."""
    return sum(len(shapes) for shapes in conv_shapes(model, 64).values())


@pytest.mark.parametrize("name", ["yolov8n", "yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose"])
def test_they_are_those_that_are_left_when_a_model_is_fused(name):
    model = build_model(name)
    before = [name for name, _ in model.named_modules()]
    fused, ran = deepcopy(model).fuse(verbose=False), []
    for m in fused.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) and (m.groups == 1 or m.groups == m.in_channels):
            m.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        fused(torch.zeros(1, 3, 64, 64))
    merged = [m for m in model.modules() if type(m).__name__ in {"RepVGGDW", "RepConv"}]  # of two convolutions each
    assert calls(model) == len(ran) + len(merged)
    assert [name for name, _ in model.named_modules()] == before
