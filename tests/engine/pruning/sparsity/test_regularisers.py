# SPDX-License-Identifier: AGPL-3.0-or-later
"""What each regulariser adds to the gradients, against its paper's formula on numbers computed by hand."""

from types import SimpleNamespace

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.engine.compress.sparsifier import build_regulariser
from ultralytics.engine.compress.sparsity_strength import decay_at
from ultralytics.engine.pruning.budget.ahead import proven_graph
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph, Group, Slice
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.criteria import squared_norms
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.sparsity.regularisers import GroupShrinkage, GrowingL2, ScaleGroupLasso, ScaleL1
from ultralytics.engine.pruning.sparsity.units import Units
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.tasks import DetectionModel, yaml_model_load


class Pair(nn.Module):
    """A convolution of two outputs, its batch norm and a convolution that reads both; another that reads neither."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)
        self.after, self.other = nn.Conv2d(2, 1, 1, bias=False), nn.Conv2d(1, 1, 1)
        self.conv.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
        self.bn.weight.data = torch.tensor([-2.0, 1.0])
        self.after.weight.data = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
        for p in self.parameters():
            p.grad = torch.ones_like(p)

    def gained(self) -> dict[str, list[float]]:
        """Return what was added to the gradients of 1."""
        return {name: (p.grad - 1).flatten().tolist() for name, p in self.named_parameters()}


@pytest.fixture
def pair():
    """The network and its one group of two units."""
    net = Pair()
    both = torch.arange(2)
    slices = [Slice(layer, axis, both, both) for layer, axis in ((net.conv, "out"), (net.bn, "out"), (net.after, "in"))]
    graph = SimpleNamespace(model=net, groups=[Group("conv", 2, slices)], example=torch.zeros(1))
    return net, Units(graph)


NOTHING = {"after.weight": [0, 0], "bn.bias": [0, 0], "conv.weight": [0, 0], "other.weight": [0], "other.bias": [0]}


def test_scale_l1_by_hand(pair):
    net, units = pair
    ScaleL1(units).add_gradients(net, 0.5)
    assert net.gained() == {**NOTHING, "bn.weight": [-0.5, 0.5]}
    assert ScaleL1(units).scales(net).tolist() == [2, 1]


@pytest.mark.parametrize("method", ["slim", "group_slim"])
def test_units_without_batch_norm_do_not_count_as_sparse(method):
    model = build_model("yolov8n-seg")
    regulariser = build_regulariser(model, SimpleNamespace(prune_method=method))
    assert len(regulariser.units) > 1000 and (regulariser.scales(model) > regulariser.SMALL).all()


def test_scale_group_lasso_by_hand():
    net, other = Pair(), nn.BatchNorm2d(2)
    net.coupled = other  # a second batch norm of the same units, as where two layers are added
    other.weight.data = torch.tensor([0.0, 1.0])
    for p in other.parameters():
        p.grad = torch.ones_like(p)
    both = torch.arange(2)
    graph = SimpleNamespace(
        model=net,
        groups=[Group("conv", 2, [Slice(m, "out", both, both) for m in (net.bn, other)])],
        example=torch.zeros(1),
    )
    regulariser = ScaleGroupLasso(Units(graph))
    regulariser.add_gradients(net, 0.5)
    # norms 2 and sqrt(2), two scales each: 0.5 * sqrt(2) * (-2 / 2, 1 / sqrt(2)) and 0.5 * sqrt(2) * (0, 1 / sqrt(2))
    assert net.gained()["bn.weight"] == pytest.approx([-0.5 * 2**0.5, 0.5])
    assert net.gained()["coupled.weight"] == pytest.approx([0, 0.5])
    assert regulariser.scales(net).tolist() == pytest.approx([2**0.5, 1])


def test_group_lasso_leaves_a_unit_at_zero(pair):
    net, units = pair
    net.bn.weight.data.zero_()
    ScaleGroupLasso(units).add_gradients(net, 0.5)
    assert net.gained() == {**NOTHING, "bn.weight": [0, 0]}


def test_group_shrinkage_by_hand(pair):
    net, units = pair
    GroupShrinkage(units).add_gradients(net, 0.5)
    # squared norms 1 + 4 + 4 = 9 and 4 + 1 + 0 = 5: the larger unit has g = 2^0, the smaller one g = 2^4
    gained = net.gained()
    assert gained["conv.weight"] == pytest.approx([0.5 * 1, 0.5 * 16 * -2])
    assert gained["bn.weight"] == pytest.approx([0.5 * -2, 0.5 * 16 * 1])
    assert gained["after.weight"] == pytest.approx([0.5 * 2, 0])
    assert gained["bn.bias"] == [0, 0] and gained["other.weight"] == [0]
    assert GroupShrinkage(units).scales(net).tolist() == pytest.approx([1, 5**0.5 / 3])


def test_growing_l2_pulls_what_is_to_be_removed(pair):
    net, units = pair
    regulariser = GrowingL2(units, doomed=torch.tensor([False, True]))
    regulariser.add_gradients(net, 0.25)
    assert net.gained() == {**NOTHING, "bn.weight": [0, 0.25], "conv.weight": [0, -0.5]}
    assert regulariser.pull(net, 7.0).tolist() == [0, GrowingL2.CEILING]


def test_weights_without_gradient_are_left_alone(pair):
    net, units = pair
    for p in net.parameters():
        p.grad = None
    for regulariser in (ScaleL1(units), ScaleGroupLasso(units), GroupShrinkage(units)):
        regulariser.add_gradients(net, 0.5)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-ghost"])
def test_units_of_the_stock_model_hold_what_the_groups_hold(name):
    model = build_model(name)
    graph = Graph(prunable_copy(model))
    units = Units(graph)
    expected = torch.cat([squared_norms(group) for group in graph.groups])
    torch.testing.assert_close(units.total(model, torch.square), expected.float(), rtol=1e-5, atol=0)
    assert torch.bincount(units.group).tolist() == [group.size for group in graph.groups]


def test_growing_l2_dooms_what_group_taylor_would_remove(yolov8n):
    def losses(model):
        yield sum(part.pow(2).mean() for part in flatten(model(torch.ones(1, 3, 64, 64))).values())

    bounds = {"speed_up": 2.0, "global_pruning": True, "round_to": 8, "max_sparsity": 1.0}
    args = SimpleNamespace(prune_method="growing_reg", budget="flops", imgsz=64, **bounds)
    regulariser = build_regulariser(yolov8n, args, losses=losses)
    _, record = prune_model(yolov8n, Budget(2.0), prune_method="group_taylor", losses=losses)
    model = build_model("yolov8n")
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    regulariser.add_gradients(model, 1.0)
    layers = dict(model.named_modules())
    checked = removed = 0
    for name, kept in record.channels.items():
        norm = layers.get(f"{name.removesuffix('.conv')}.bn")
        if norm is not None:
            doomed = sorted(set(range(norm.num_features)) - set(kept["out"]))
            assert norm.weight.grad.nonzero().flatten().tolist() == doomed
            checked, removed = checked + 1, removed + len(doomed)
    assert checked > 50 and removed > 1000


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("constant", [0.1] * 5), ("linear", [0.1, 0.08, 0.06, 0.04, 0.02]), ("step", [0.1, 0.1, 0.02, 0.02, 0.004])],
)
def test_reg_schedules(kind, expected):
    args = SimpleNamespace(reg_decay=0.2, reg_decay_type=kind, reg_decay_step=2)
    assert [0.1 * decay_at(epoch, 5, args) for epoch in range(5)] == pytest.approx(expected)


def test_four_methods_have_a_regulariser():
    assert [name for name, m in METHODS.items() if m.regulariser] == ["slim", "group_slim", "group_sl", "growing_reg"]


def test_units_of_grouped_convolutions_hold_the_channels_of_their_own_group():
    architecture = yaml_model_load("yolov8n.yaml")
    architecture["backbone"][3] = [-1, 1, "Conv", [256, 3, 2, None, 4]]
    model = DetectionModel(architecture, nc=2, verbose=False)
    graph = proven_graph(model, False)
    units = Units(graph)
    expected = torch.cat([squared_norms(group) for group in graph.groups]).float()
    assert units.total(model, torch.square).allclose(expected, rtol=1e-4)
    weight = model.model[3].conv.weight
    assert any(share._groups(own) == 4 for share, own in units.weights(model) if own is weight)
    values = torch.arange(1.0, len(units) + 1)
    for share, own in units.weights(model):  # what is spread and gathered again is there once for each weight of a unit
        ones = torch.ones_like(own)
        once = share.gathered(ones)
        held = torch.cat([values, values.new_zeros(1)])[share.unit]
        assert share.gathered(ones * share.spread(values, own)).allclose(once * held)
