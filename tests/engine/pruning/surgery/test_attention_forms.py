# SPDX-License-Identifier: AGPL-3.0-or-later
"""Attention that people write themselves, whose heads are as wide as what comes in: by whole heads, and exactly."""

import pytest
import torch
from conftest import run_in_fp64
from foreign_blocks import BLOCKS, Block, conv
from torch import nn

from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, masked, relative_difference
from ultralytics.engine.pruning.surgery.trial import sound_graph
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.tasks import DetectionModel

WIDTH = 32
HEAD = [[[1, 2], 1, "Detect", ["nc"]]]
FORMS = ("OwnAttention", "SeparateAttention", "TokenAttention", "FusedAttention", "HeldAttention")


def network(block: nn.Module, width: int = WIDTH) -> DetectionModel:
    """Return a network of some layers, of which the second has the block behind it."""
    torch.manual_seed(0)
    backbone = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [width, 3, 2]], [-1, 1, "Conv", [48, 3, 2]]]
    model = DetectionModel({"nc": 2, "backbone": backbone, "head": [*map(list, HEAD)]}, verbose=False)
    layer = model.model[1]
    both = nn.Sequential(layer, block)
    both.i, both.f, both.type = layer.i, layer.f, layer.type
    model.model[1] = both
    return enliven(model, model.predict)


def attention(q, k, v, scale):
    """Return the attention of heads, shape (B, heads, size, pixels) each."""
    weights = ((q.transpose(-2, -1) @ k) * scale).softmax(-1)
    return v @ weights.transpose(-2, -1)


class Unequal(Block):
    """Queries and keys half as wide as the values, all from one layer."""

    def make(self, c):
        self.qkv, self.out = conv(c, 2 * c), conv(c, c)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).split([c // 2, c // 2, c], 1)
        q, k, v = q.view(b, 2, c // 4, h * w), k.view(b, 2, c // 4, h * w), v.view(b, 2, c // 2, h * w)
        return x + self.out(attention(q, k, v, (c // 4) ** -0.5).reshape(x.shape))


class AsManyHeads(Block):
    """As many heads as channels in a head, by a number that the block holds."""

    def make(self, c):
        self.heads, self.qkv, self.out = int(c**0.5), conv(c, 3 * c), conv(c, c)

    def forward(self, x):
        b, c, h, w = x.shape
        size = c // self.heads
        q, k, v = self.qkv(x).view(b, 3, self.heads, size, h * w).unbind(1)
        return x + self.out(attention(q, k, v, size**-0.5).reshape(x.shape))


class Mixed(Block):
    """Two attentions on one stream, one with the root of its width, one with a scale that it learns."""

    def make(self, c):
        self.first, self.second = BLOCKS["OwnAttention"](c), BLOCKS["OwnAttention"](c)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        x = self.first(x)
        b, c, h, w = x.shape
        q, k, v = self.second.qkv(x).view(b, 4, 3, c // 4, h * w).unbind(2)
        return x + self.second.out(attention(q, k, v, self.scale).reshape(x.shape))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("kind", "width"),
    [*((BLOCKS[name], WIDTH) for name in FORMS), (Unequal, WIDTH), (AsManyHeads, 64), (Mixed, WIDTH)],
)
def test_it_is_pruned_through_and_exactly(kind, width, training):
    model = network(kind(width), width)
    pruned, record = prune_model(model, Budget(2.0, round_to=1, global_pruning=False), prune_method="lamp")
    inside = {layer: kept for layer, kept in record.channels.items() if layer.startswith("model.1.1.")}
    assert inside and not any(layer.startswith("model.1.") for layer in record.left_dense)
    assert all(len(kept["out"]) < model.get_submodule(layer).weight.shape[0] for layer, kept in inside.items())
    image = torch.rand(1, 3, 64, 96, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    expected, actual = (run_in_fp64(m, image, training) for m in (masked(model, record), pruned))
    assert all(value.std() > 1e-3 * value.abs().max() for value in expected.values())
    assert max(relative_difference(actual[key], value) for key, value in expected.items()) < 1e-7  # scales are FP32


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


class Stepped(Block):
    """A number of heads that falls when the width has fallen by a third."""

    def make(self, c):
        self.qkv, self.out, self.share = conv(c, 3 * c), conv(c, c), nn.Parameter(torch.full((c, 1, 1), 0.1))

    def forward(self, x):
        b, c, h, w = x.shape
        heads = max(1, c // 48)
        q, k, v = self.qkv(x).view(b, 3, heads, c // heads, h * w).unbind(1)
        return x + self.share * self.out(attention(q, k, v, (c // heads) ** -0.5).reshape(x.shape))


class ChannelAttention(Block):
    """Products of channels with channels."""

    def make(self, c):
        self.qkv, self.out = conv(c, 3 * c), conv(c, c)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 3, 4, c // 4, h * w).unbind(1)
        return x + self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).reshape(x.shape))


class Beside(Block):
    """A group that counts on its number by itself, behind an attention."""

    def make(self, c):
        self.attention, self.down, self.up = BLOCKS["OwnAttention"](c), conv(c, 24), conv(24, c)

    def forward(self, x):
        x = self.attention(x)
        b, _, h, w = x.shape
        return x + self.up(self.down(x).view(b, 4, 6, h, w).softmax(1).reshape(b, 24, h, w))


@pytest.mark.parametrize(
    ("kind", "width", "whole"),
    [(Stepped, 128, "qkv"), (ChannelAttention, WIDTH, "qkv"), (Beside, WIDTH, "down")],
)
def test_the_rest_stays_whole_with_its_reason(kind, width, whole):
    """Nothing is cut that a larger cut would make wrong, and nothing else spoils what can be cut."""
    model = network(kind(width), width)
    try:
        pruned, record = prune_model(model, Budget(2.0, round_to=1, global_pruning=False), prune_method="lamp")
    except OutOfReachError as error:
        lower = Budget(0.1 + 0.9 * error.reachable, round_to=1, global_pruning=False)
        pruned, record = prune_model(model, lower, prune_method="lamp")
    assert "model.1.1" in record.left_dense[f"model.1.1.{whole}"]
    image = torch.rand(1, 3, 64, 96, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    expected, actual = (run_in_fp64(m, image, False) for m in (masked(model, record), pruned))
    assert max(relative_difference(actual[key], value) for key, value in expected.items()) < 1e-7
    assert kind is not Beside or len(record.channels["model.1.1.attention.qkv"]["out"]) < 3 * width
