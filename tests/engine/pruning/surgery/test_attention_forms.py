# SPDX-License-Identifier: AGPL-3.0-or-later
"""Attention that people write themselves, whose heads are as wide as what comes in: by whole heads, and exactly."""

import pytest
import torch
from foreign_blocks import BLOCKS
from torch import nn

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, flatten, masked, relative_difference
from ultralytics.engine.pruning.surgery.trial import sound_graph
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.tasks import DetectionModel

WIDTH = 32
LAYERS = {
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [WIDTH, 3, 2]], [-1, 1, "Conv", [48, 3, 2]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}
FORMS = ("OwnAttention", "SeparateAttention", "TokenAttention", "FusedAttention", "HeldAttention")


def network(block: nn.Module) -> DetectionModel:
    """Return a network of some layers, of which the second has the block behind it."""
    torch.manual_seed(0)
    model = DetectionModel({"nc": 2, **LAYERS}, verbose=False)
    layer = model.model[1]
    both = nn.Sequential(layer, block)
    both.i, both.f, both.type = layer.i, layer.f, layer.type
    model.model[1] = both
    return enliven(model, model.predict)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_it_is_pruned_through_and_exactly(name, training):
    model = network(BLOCKS[name](WIDTH))
    pruned, record = prune_model(model, Budget(2.0, round_to=1, global_pruning=False), prune_method="lamp")
    inside = {layer: kept for layer, kept in record.channels.items() if layer.startswith("model.1.1.")}
    assert inside and not any(layer.startswith("model.1.") for layer in record.left_dense)
    assert all(len(kept["out"]) < model.get_submodule(layer).weight.shape[0] for layer, kept in inside.items())
    image = torch.rand(1, 3, 64, 96, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    expected, actual = (outputs(m, image, training) for m in (masked(model, record), pruned))
    assert all(value.std() > 1e-3 * value.abs().max() for value in expected.values())
    assert max(relative_difference(actual[key], value) for key, value in expected.items()) < 1e-9


def outputs(model: nn.Module, image: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
    """Return what the head puts out in FP64, with the statistics of the batch norms."""
    model.double().train(training)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    with torch.no_grad():
        output = model(image)
    return flatten(output[1] if isinstance(output, tuple) else output)


def test_heads_and_what_comes_in_are_one_group():
    """A unit is a channel of every head, of queries, keys and values, and as many channels of what comes in."""
    form = prunable_copy(network(BLOCKS["OwnAttention"](WIDTH)))
    before, after = Graph(form), sound_graph(form)
    qkv, out = (form.get_submodule(f"model.1.1.{name}") for name in ("qkv", "out"))
    holds = [{(s.layer, s.axis) for s in g.slices} >= {(qkv, "out"), (qkv, "in")} for g in after.groups]
    assert sum(holds) == 1 and len(after.groups) == len(before.groups) - 1
    group = after.groups[holds.index(True)]
    counts = {(s.layer, s.axis): s.units.bincount(minlength=group.size).tolist() for s in group.slices}
    assert group.size == WIDTH // 4
    assert counts[qkv, "out"] == [12] * group.size and counts[qkv, "in"] == counts[out, "out"] == [4] * group.size


class Taught(BLOCKS["OwnAttention"]):
    """Queries that pass a function in which a factor is lost."""

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).view(b, self.heads, 3, c // self.heads, h * w).unbind(2)
        weights = ((q.tanh().transpose(-2, -1) @ k) * (c // self.heads) ** -0.5).softmax(-1)
        return x + self.out((v @ weights.transpose(-2, -1)).reshape(b, c, h, w))


def test_what_no_factor_makes_up_for_stays_whole():
    model = network(Taught(WIDTH))
    pruned, record = prune_model(model, Budget(1.05, round_to=1), prune_method="lamp")
    assert "which counts on their number" in record.left_dense["model.1.1.qkv"]
    assert torch.equal(pruned.get_submodule("model.1.1.qkv").weight, model.get_submodule("model.1.1.qkv").weight)
