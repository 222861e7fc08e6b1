# SPDX-License-Identifier: AGPL-3.0-or-later
"""Criteria against their papers' formulas, computed by hand."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Group, Slice
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.criteria import (
    balanced,
    bn_group_scale,
    bn_scale,
    group_norm,
    hessian,
    l1,
    lamp,
    random,
    squared_norms,
    taylor,
)
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import score_groups


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


def test_l1_and_group_norm_by_hand():
    group = group_of(torch.tensor([[3.0, -1.0], [1.0, 1.0]]))
    assert l1(group).tolist() == pytest.approx([4 / 3, 2 / 3])  # 4 and 2 over their mean
    assert group_norm(group).tolist() == pytest.approx([10 / 6, 2 / 6])


def test_random_is_seeded_and_its_own_in_each_group():
    group = group_of(torch.ones(8, 1))
    other = Group("other", group.size, group.slices)
    assert torch.equal(random(group, seed=1), random(group, seed=1))
    assert not torch.equal(random(group, seed=1), random(group, seed=2))
    assert not torch.equal(random(group, seed=1), random(other, seed=1))


def test_taylor_and_hessian_by_hand():
    group = group_of(torch.tensor([[3.0, 1.0], [2.0, 0.0]]))
    conv = group.slices[0].layer
    conv.weight.grad = torch.tensor([[1.0, -2.0], [0.5, 7.0]])[..., None, None]
    # g*w: unit 0 has 3 and -2, unit 1 has 1 and 0
    assert taylor(group).tolist() == [(3 - 2) ** 2, 1]
    assert hessian(group).tolist() == [(9 + 4) / 2, 1 / 2]


def test_taylor_estimates_the_loss_change():
    """For a loss that is linear in the weights the first-order estimate is exact: the squared loss change."""
    torch.manual_seed(0)
    group = group_of(torch.rand(4, 3))
    conv, image = group.slices[0].layer, torch.rand(1, 3, 2, 2)
    conv(image).sum().backward()
    with torch.no_grad():
        change = conv(image).sum((0, 2, 3))  # what each output channel adds to the loss
    torch.testing.assert_close(taylor(group), change.double().pow(2), rtol=1e-5, atol=0)


def test_balanced_by_hand():
    # 6 and 2 have a mean of 4; a group whose losses are 100 times as large has scores 10 times as large
    assert balanced(torch.tensor([6.0, 2.0])).tolist() == [3, 1]
    assert balanced(torch.tensor([600.0, 200.0])).tolist() == [30, 10]
    assert balanced(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["group_taylor", "group_hessian"])
def test_scores_of_batches_are_averaged_and_then_balanced(name):
    torch.manual_seed(0)
    group = group_of(torch.rand(4, 3))
    conv, images = group.slices[0].layer, torch.rand(2, 1, 3, 2, 2)
    each = []
    for image in images:
        conv.zero_grad()
        conv(image).sum().backward()
        each.append(METHODS[name].criterion(group))
    (scores,) = score_groups(conv, [group], METHODS[name], lambda model: (model(image).sum() for image in images))
    mean = (each[0] + each[1]) / 2
    torch.testing.assert_close(scores, mean / mean.mean().sqrt())


def test_layer_without_influence_scores_zero():
    assert taylor(group_of(torch.ones(2, 2))).tolist() == hessian(group_of(torch.ones(2, 2))).tolist() == [0, 0]


def test_batch_norm_scales_by_hand():
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    first.weight.data, second.weight.data = torch.tensor([3.0, -1.0]), torch.tensor([-4.0, 1.0])
    units = torch.arange(2)
    group = group_of(torch.ones(2, 1), Slice(first, "out", units, units), Slice(second, "out", units, units))
    assert bn_scale(group).tolist() == [3.5, 1]
    assert bn_group_scale(group).tolist() == pytest.approx([(25 / 2) ** 0.5, 1])


@pytest.mark.parametrize("criterion", [bn_scale, bn_group_scale])
def test_group_without_batch_norm_is_refused(criterion):
    with pytest.raises(ValueError, match="no batch norm belongs to the outputs of 'conv'"):
        criterion(group_of(torch.ones(2, 1)))


def test_losses_of_another_model_are_refused(yolov8n):
    image, other = torch.rand(2, 3, 64, 64), deepcopy(yolov8n).train()
    with pytest.raises(ValueError, match="'losses' yielded a loss that depends on no weight of the model"):
        prune_model(yolov8n, Budget(2.0), prune_method="group_taylor", losses=lambda model: [sum_of(other, image)])
    _, record = prune_model(yolov8n, Budget(2.0), prune_method="group_taylor", losses=lambda m: [sum_of(m, image)])
    assert record.reached == pytest.approx(2, rel=0.03)


def sum_of(model, image):
    """Return the sum of what a model in training mode puts out."""
    return sum(level.sum() for level in flatten(model(image)).values())
