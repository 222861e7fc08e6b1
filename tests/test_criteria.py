# SPDX-License-Identifier: AGPL-3.0-or-later
"""Criteria against their papers' formulas, computed by hand."""

import torch
from torch import nn

from ultralytics.engine.pruning.criteria import lamp, squared_norms
from ultralytics.engine.pruning.groups import Group, Slice


def group_of(rows: torch.Tensor, *more: Slice) -> Group:
    """Return a group of the output channels of a 1x1 convolution with the given weight rows."""
    conv = nn.Conv2d(rows.shape[1], rows.shape[0], 1, bias=False)
    conv.weight.data = rows[..., None, None]
    n = len(rows)
    return Group("conv", n, [Slice(conv, "out", torch.arange(n), torch.arange(n)), *more])


def test_lamp_by_hand():
    # squared norms 9, 1, 4 in ascending order 1, 4, 9: 1/(1+4+9), 4/(4+9), 9/9
    scores = lamp(group_of(torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0]])))
    torch.testing.assert_close(scores, torch.tensor([1.0, 1 / 14, 4 / 13], dtype=torch.float64))


def test_lamp_of_equal_and_zero_units():
    scores = lamp(group_of(torch.ones(3, 1)))
    torch.testing.assert_close(scores, torch.tensor([1 / 3, 1 / 2, 1.0], dtype=torch.float64))
    assert lamp(group_of(torch.zeros(2, 1))).tolist() == [0, 0]


def test_removing_the_smallest_keeps_the_other_scores():
    torch.manual_seed(0)
    rows = torch.rand(6, 3)
    scores = lamp(group_of(rows))
    rest = scores.argsort()[2:].sort().values
    torch.testing.assert_close(lamp(group_of(rows[rest])), scores[rest])


def test_norms_add_up_over_outputs_inputs_and_batch_norm():
    consumer, norm = nn.Conv2d(4, 1, 1, bias=False), nn.BatchNorm2d(2)
    consumer.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    norm.weight.data = torch.tensor([1.0, 3.0])
    units = torch.tensor([0, 1])
    group = group_of(
        torch.tensor([[1.0], [2.0]]),
        Slice(norm, "out", units, units),
        Slice(consumer, "in", torch.arange(4), torch.tensor([0, 1, 0, 1])),  # a concatenation repeats the channels
    )
    assert squared_norms(group).tolist() == [1 + 1 + (1 + 9), 4 + 9 + (4 + 16)]
