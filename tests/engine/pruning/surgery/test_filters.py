# SPDX-License-Identifier: AGPL-3.0-or-later
"""Filters lose channels with the layers around them, and the sizes by which a block splits follow."""

import pytest
import torch
from filtering_blocks import FILTERING, Inception, Learnt, haar
from odd_blocks import with_block
from torch import nn
from torch.nn import functional as F

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, largest_difference
from ultralytics.nn.modules.conv import Conv


def cut(model):
    """Return a pruned model, proved on an image that is no square, and why layers behind the fifth stay whole."""
    model = enliven(model, model.predict)
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False, round_to=1), prune_method="lamp")
    assert record.reached == pytest.approx(2, rel=0.01)
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4
    pruned.train()(torch.rand(2, 3, 64, 64))
    return pruned, {k.removeprefix("model.4.1."): v for k, v in record.left_dense.items() if k.startswith("model.4.1.")}


@pytest.mark.parametrize("kind", FILTERING)
def test_a_block_is_cut_through(yolov8n, kind):
    torch.manual_seed(0)
    block = kind(64)
    pruned, whole = cut(with_block(yolov8n, block))
    assert not whole
    for name, value in pruned.model[4][1].state_dict().items():
        if value.dim() > 2:  # layers and filters, but not the one of all channels
            assert value.shape[0] < block.state_dict()[name].shape[0] or kind.__name__ == "Edged" or name == "scale"


def test_the_filters_that_are_left_are_those_of_the_channels_that_are(yolov8n):
    torch.manual_seed(0)
    model = with_block(yolov8n, Learnt(64))
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False, round_to=1), prune_method="lamp")
    kept = record.channels["model.4.1.cv.conv"]["out"]
    rows = torch.tensor([row for i in kept for row in (2 * i, 2 * i + 1)])
    assert torch.equal(pruned.model[4][1].weight, model.model[4][1].weight[rows])
    assert torch.equal(pruned.model[4][1].bias, model.model[4][1].bias[rows])
    assert record.channels["model.4.1.join.conv"]["in"] == rows.tolist()


def test_a_tuple_of_sizes_follows(yolov8n):
    pruned, _ = cut(with_block(yolov8n, Inception(64)))
    block = pruned.model[4][1]
    assert type(block.sizes) is tuple and sum(block.sizes) == block.cv.conv.out_channels < 64
    assert block.sizes[1:] == tuple(m.in_channels for m in (block.square, block.wide, block.high))


class Mixing(nn.Module):
    """Mixes channels by a weight of its own."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out, self.weight = Conv(c, c), Conv(c, c), nn.Parameter(torch.randn(c, c, 1, 1))

    def forward(self, x):
        return self.out(F.conv2d(self.cv(x), self.weight))


class Unlike(nn.Module):
    """Has another filter for each channel, made anew in every call for a number of channels that is fixed."""

    def __init__(self, c):
        super().__init__()
        self.cv, self.out = Conv(c, c), Conv(c, c)

    def forward(self, x):
        y = self.cv(x)
        return self.out(
            F.conv2d(y, haar(y.shape[1] // 4).repeat(1, 1, 1, 1), padding=1, groups=y.shape[1])[..., 1:, 1:]
        )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Mixing, "mixed by weights that are no layer's"), (Unlike, "meet numbers that no layer makes")],
)
def test_what_cannot_go_by_itself_stays(yolov8n, kind, reason):
    _, whole = cut(with_block(yolov8n, kind(64)))
    assert list(whole) == ["cv.conv"] and reason in whole["cv.conv"]
