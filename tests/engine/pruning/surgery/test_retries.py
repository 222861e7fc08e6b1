# SPDX-License-Identifier: AGPL-3.0-or-later
"""A block that no trace understands stays whole, and the model around it is cut."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model
from torch import nn
from torch.nn import functional as F

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import WRONG, prune_model
from ultralytics.engine.pruning.surgery.cut import SLICERS, slice_batch_norm
from ultralytics.engine.pruning.surgery.oracle import largest_difference
from ultralytics.engine.pruning.surgery.proof import WrongCutError
from ultralytics.nn.modules.block import C2f
from ultralytics.nn.modules.conv import Conv, GhostConv, RepConv
from ultralytics.nn.tasks import DetectionModel, yaml_model_load


class Standardised(nn.Conv2d):
    """Weight standardisation, which counts what it reads."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class Residual(nn.Module):
    """Adds where shapes happen to be equal."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b, self.c = Conv(c, 32), Conv(32, 56), Conv(56, c)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        return self.c(z + y if z.shape == y.shape else z)


class Trained(nn.Module):
    """Has a branch that only training runs."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.aux = Conv(c, c), nn.Conv2d(c, c, 1)

    def forward(self, x):
        y = self.cv(x)
        if self.training:
            self.seen = self.aux(y)
        return y


class Padded(nn.Module):
    """Pads the channels of its shortcut by a fixed number."""

    def __init__(self, c):
        super().__init__()
        self.c, self.cv, self.out = c, Conv(c, 2 * c), Conv(2 * c, c)

    def forward(self, x):
        return self.out(self.cv(x) + F.pad(x, (0, 0, 0, 0, 0, self.c)))


class Normalised(nn.Module):
    """NAM: weighs channels by the scales of a batch norm (arXiv 2111.12419)."""

    def __init__(self, c):
        super().__init__()
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        y = self.bn(x)
        weight = self.bn.weight.data.abs() / torch.sum(self.bn.weight.data.abs())
        return x * torch.sigmoid(y * weight.view(1, -1, 1, 1))


class Remembering(nn.Module):
    """Keeps what it has computed."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.kept = Conv(c, c), []

    def forward(self, x):
        self.feature = self.cv(x)
        self.kept = [self.feature.mean()]
        return self.feature


class Shifted(nn.Module):
    """Shifts larger maps by a number of pixels that is one of channels by chance."""

    def __init__(self, c):
        super().__init__()
        self.size, self.cv, self.out = c // 4, Conv(c, c), Conv(c, c)

    def forward(self, x):
        parts = torch.cat([part.sigmoid() for part in self.cv(x).split(self.size, 1)], 1)
        if x.shape[3] > self.size:
            parts = parts - parts.roll(self.size, 3)
        return self.out(parts)


class Named(nn.Module):
    """Calls its layers by the names of their arguments."""

    def __init__(self, c):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c), nn.Conv2d(c, c, 1)

    def forward(self, x):
        return self.b(input=self.norm(input=self.a(input=x)).relu())


class MixedGroups(nn.Module):
    """A group norm whose groups hold channels and what no trace follows."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.norm, self.out = Conv(c, c), nn.GroupNorm(2, 2 * c), Conv(2 * c, c)

    def forward(self, x):
        return self.out(self.norm(torch.cat((self.cv(x), torch.fft.fft2(x).real), 1)))


def with_block(model, block):
    """Return a copy of a yolov8n with a block behind its layer 4."""
    model = deepcopy(model)
    before = model.model[4]
    whole = nn.Sequential(before, block)
    whole.i, whole.f, whole.type, whole.np = before.i, before.f, before.type, before.np
    model.model[4] = whole
    return model.eval()


def losses(model):
    """Yield a loss of the head's features."""
    yield sum(y.square().mean() for y in model(torch.rand(2, 3, 64, 64))["feats"])


KINDS = [Standardised, Residual, Trained, Padded, Normalised, Remembering, Shifted, Named, MixedGroups]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lamp", "group_taylor"])
def test_the_model_around_a_block_is_cut(yolov8n, kind, method):
    torch.manual_seed(0)
    model = with_block(yolov8n, Standardised(64, 64, 3, 1, 1) if kind is Standardised else kind(64))
    for speed_up, round_to in ((1.5, 1), (1.8, 8)):
        budget = Budget(speed_up, global_pruning=False, round_to=round_to)  # every group loses
        pruned, record = prune_model(model, budget, prune_method=method, losses=losses)
        assert record.reached == pytest.approx(speed_up, rel=0.03)
        assert largest_difference(model, pruned, record, torch.rand(2, 3, 96, 160)) < 1e-4
        pruned.train()(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("layer", [GhostConv(32, 32), Conv(32, 32, g=4), Conv(32, 32, act=nn.PReLU(32))])
def test_a_stock_block_with_another_layer_in_it_is_followed_as_any_block(yolov8n, layer):
    model = deepcopy(yolov8n)
    model.model[2].cv1 = deepcopy(layer)
    pruned, record = prune_model(model.eval(), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert type(pruned.model[2]) is C2f
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


class Single(nn.Module):
    """Computes in FP32 whatever it gets, in a way that FP64 does not stand."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)
        self.register_buffer("grid", torch.rand(1, 4, 4, 2) * 2 - 1)

    def forward(self, x):
        a, b = self.cv(x).chunk(2, 1)
        seen = F.grid_sample(torch.cat((b, a), 1), self.grid.float(), align_corners=False)
        return self.out(x) * seen.mean((2, 3), keepdim=True)


def test_code_that_does_not_stand_fp64_keeps_nothing_else_whole(yolov8n):
    model = with_block(yolov8n, Single(64))
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert not [name for name in record.left_dense if not name.startswith(("model.4.", "model.22."))]
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4


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


def test_what_stays_whole_says_why(yolov8n, log):
    _, record = prune_model(with_block(yolov8n, Padded(64)), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert record.left_dense["model.4.1.cv.conv"] == WRONG
    assert "A cut around 'model.4.1." in log.text


def test_a_cut_that_is_wrong_everywhere_is_refused(yolov8n, monkeypatch):
    def shifted(norm, out_channels):
        slice_batch_norm(norm, (out_channels + 1) % norm.num_features)

    monkeypatch.setitem(SLICERS, nn.BatchNorm2d, shifted)
    with pytest.raises(WrongCutError, match="the cut is wrong and nothing was saved"):
        prune_model(yolov8n, Budget(1.5, global_pruning=False), prune_method="lamp")
