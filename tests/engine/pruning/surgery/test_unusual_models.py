# SPDX-License-Identifier: AGPL-3.0-or-later
"""Models with unusual stems, heads, layers and precisions are cut exactly, or refused in one sentence."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model
from odd_blocks import AsWideAsItsMap, Mirrored, Padded, Pooled, Single, Windows, with_block
from torch import nn
from torch.nn import functional as F

from ultralytics.engine.pruning.budget.flops import count_flops, sum_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import largest_difference
from ultralytics.engine.pruning.surgery.wrong import WRONG
from ultralytics.nn.modules.block import C2f
from ultralytics.nn.modules.conv import Conv, GhostConv, RepConv
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.torch_utils import get_flops


@pytest.mark.parametrize("layer", [GhostConv(32, 32), Conv(32, 32, g=4), Conv(32, 32, act=nn.PReLU(32))])
def test_a_stock_block_with_another_layer_in_it_is_followed_as_any_block(yolov8n, layer):
    model = deepcopy(yolov8n)
    model.model[2].cv1 = deepcopy(layer)
    pruned, record = prune_model(model.eval(), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert type(pruned.model[2]) is C2f
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


def test_code_that_does_not_stand_fp64_keeps_nothing_else_whole(yolov8n):
    model = with_block(yolov8n, Single(64))
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert not [name for name in record.left_dense if not name.startswith(("model.4.", "model.22."))]
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


class SingleOnly(Single):
    """The same without anything that counts on a number of channels."""

    def forward(self, x):
        seen = F.grid_sample(self.cv(x), self.grid.float(), align_corners=False)
        return self.out(x) * seen.mean((2, 3), keepdim=True)


def test_what_is_wrong_beside_it_stays_whole(yolov8n):
    model = with_block(yolov8n, nn.Sequential(SingleOnly(64), Padded(64)))
    pruned, record = prune_model(model, Budget(1.5, global_pruning=False), prune_method="lamp")
    assert record.left_dense["model.4.1.1.cv.conv"] == WRONG
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


@pytest.mark.parametrize("kind", [AsWideAsItsMap, Pooled])
def test_neither_the_size_of_a_map_nor_its_layout_keeps_channels(yolov8n, kind):
    model = with_block(yolov8n, kind(64)).to(memory_format=torch.channels_last)
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert not [name for name in record.left_dense if name.startswith("model.4.")]
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


def test_a_stock_block_to_whose_class_a_fork_adds_a_layer_is_followed(yolov8n, monkeypatch):
    def forward(block, x):
        y = [*block.cv1(x).chunk(2, 1)]
        y.extend(m(y[-1]) for m in block.m)
        y = block.cv2(torch.cat(y, 1))
        return block.gate(y).sigmoid() * y if hasattr(block, "gate") else y

    model = deepcopy(yolov8n)
    model.model[4].gate = nn.Conv2d(64, 64, 1)
    monkeypatch.setattr(C2f, "forward", forward)
    pruned, record = prune_model(model.eval(), Budget(1.8, global_pruning=False), prune_method="lamp")
    assert pruned.model[4].gate.out_channels < 64
    assert not [name for name in record.left_dense if name.startswith("model.4.")]
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


@pytest.mark.parametrize(("block", "side"), [(Windows(256), 256), (Windows(256, 4), 128), (Mirrored(256), 128)])
def test_blocks_that_need_a_larger_image_than_others(yolov8n, block, side):
    model = with_block(yolov8n, block, 8)
    assert example_image(model).shape == (1, 3, side, side)
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert example_image(pruned).shape == (1, 3, side, side)
    assert record.reached == pytest.approx(2, rel=0.01)
    assert not any(name.startswith("model.8.1") for name in record.left_dense)
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 256, 512)) < 1e-4
    counted = get_flops(model) or sum_flops(model)  # eight pixels do not divide the twenty of 640
    assert record.gflops["dense"] == pytest.approx(counted, rel=1e-3)


def test_a_model_that_runs_on_no_image_is_named(yolov8n):
    model = with_block(yolov8n, Windows(256, 5), 8)
    with pytest.raises((RuntimeError, ValueError), match=r"does not run on an image of 64 pixels.*model\.8\.1"):
        prune_model(model, Budget(2.0), prune_method="lamp")


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_model_that_is_random_in_evaluation_is_refused(yolov8n, chunks):
    class Dropped(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.cv, self.out = Conv(c, c), Conv(c, c)

        def forward(self, x):
            return self.out(F.dropout(torch.cat(self.cv(x).chunk(chunks, 1), 1), 0.1))

    with pytest.raises(ValueError, match=r"something else each time in evaluation, first in what 'model\.4\.1\.out"):
        prune_model(with_block(yolov8n, Dropped(64)), Budget(2.0, global_pruning=False), prune_method="lamp")


class Derived(RepConv):
    """Derived from a stock block that keeps channel counts."""


def test_blocks_derived_from_stock_ones_can_be_fused(yolov8n):
    model = with_block(yolov8n, Derived(64, 64, bn=True))
    pruned, record = prune_model(model, Budget(1.5, global_pruning=False), prune_method="lamp")
    image = torch.rand(1, 3, 96, 160)
    expected = pruned(image)[0]
    torch.testing.assert_close(deepcopy(pruned).fuse(verbose=False)(image)[0], expected, rtol=1e-3, atol=1e-2)


class OwnProto(nn.Module):
    """Prototypes of masks by layers of other names."""

    def __init__(self, c, masks):
        super().__init__()
        self.first, self.last = Conv(c, 32), nn.Conv2d(32, masks, 1)

    def forward(self, x):
        return self.last(F.interpolate(self.first(x), scale_factor=2.0))


def test_a_segmentation_head_may_have_prototypes_of_its_own():
    model = build_model("yolov8n-seg")
    head = model.model[-1]
    head.proto = OwnProto(head.proto.cv1.conv.in_channels, head.nm)
    pruned, record = prune_model(model.eval(), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert pruned.model[-1].proto.last.out_channels == head.nm
    assert pruned.model[-1].proto.first.conv.out_channels < 32
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


def test_a_stock_block_in_two_places_stays_one(yolov8n):
    shared = C2f(64, 64)
    model = with_block(yolov8n, nn.Sequential(shared, nn.Identity(), shared))
    pruned, record = prune_model(model, Budget(1.5, global_pruning=False), prune_method="lamp")
    first, _, again = pruned.model[4][1]
    assert first is again and type(first) is C2f
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


def test_a_model_that_begins_with_a_focus_is_pruned():
    architecture = yaml_model_load("yolov8n.yaml")
    architecture["backbone"][0] = [-1, 1, "Focus", [64, 3]]
    architecture["backbone"][1] = [-1, 1, "Conv", [128, 3, 1]]
    model = DetectionModel(architecture, verbose=False)
    dense = count_flops(model)
    pruned, record = prune_model(model, Budget(2.0), prune_method="lamp")
    assert dense / count_flops(pruned) == pytest.approx(record.reached) == pytest.approx(2, rel=0.03)
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


@pytest.mark.parametrize("call", [lambda x: x.norm(2, 2), lambda x: x.topk(4, dim=2).values, lambda x: x.sort().values])
def test_dimensions_are_told_from_other_numbers(yolov8n, call):
    class Along(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.cv = Conv(c, c)

        def forward(self, x):
            return self.cv(x) + call(x.mean(3, keepdim=True)).mean(2).view(len(x), -1, 1, 1)

    _, record = prune_model(with_block(yolov8n, Along(64)), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert not [name for name in record.left_dense if name.startswith("model.4.")]
