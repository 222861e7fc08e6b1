# SPDX-License-Identifier: AGPL-3.0-or-later
"""Channels are followed through whatever a block does with them, one small block for each kind of operation."""

import pytest
import torch
from conftest import NEEDS, run_in_fp64
from torch import nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.places import outputs
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, largest_difference, masked, relative_difference
from ultralytics.engine.pruning.surgery.trial import is_right, sound_graph
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.tasks import DetectionModel

WIDTH = 32
LAYERS = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [WIDTH, 3, 2]], [-1, 1, "Conv", [48, 3, 2]]]


class Block(nn.Module):
    """Some layers; `forward` is what a case is about."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


class Behind(nn.Module):
    """A layer of a network with a block behind it."""

    def __init__(self, layer, block):
        super().__init__()
        self.layer, self.block = layer, block
        self.i, self.f, self.type = layer.i, layer.f, layer.type

    def forward(self, x):
        return self.block(self.layer(x))


def conv(inputs=WIDTH, outputs=WIDTH, k=1, **settings):
    return nn.Conv2d(inputs, outputs, k, padding=k // 2, **settings)


def network(block):
    """Return a network of some layers, of which the second has the block behind it."""
    torch.manual_seed(0)
    layers = {"backbone": [*map(list, LAYERS)], "head": [[[1, 2], 1, "Detect", ["nc"]]]}
    model = DetectionModel({"nc": 2, **layers}, verbose=False)
    for p in block.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model.model[1] = Behind(model.model[1], block)
    return enliven(model, model.predict)


def grouped(groups, inputs=WIDTH, outputs=WIDTH):
    return Block(lambda s, x: s.b(F.silu(s.a(x))), a=conv(inputs, outputs, 3, groups=groups), b=conv(outputs))


def squeeze(s, x):
    return x * s.b(s.a(x.mean((2, 3))).relu()).sigmoid().view(*x.shape[:2], 1, 1)


def tokens(s, x):
    y = s.narrow(F.gelu(s.wide(s.norm(x.permute(0, 2, 3, 1)))))
    return x + s.scale * y.permute(0, 3, 1, 2)


def attend(s, x):
    t = x.flatten(2).transpose(1, 2)
    t = t + s.attention(s.norm(t), s.norm(t), t, need_weights=False)[0]
    return t.transpose(1, 2).view_as(x)


def partial(s, x):
    first, rest = x.split([s.some, x.shape[1] - s.some], 1)
    return s.mix(torch.cat((s.conv(first), rest), 1))


def halves(s, x):
    a, b = s.wide(x).chunk(2, 1)
    return s.out(a * b.sigmoid())


def gate(s, x):
    return x * s.conv(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)).sigmoid()


def neighbours(s, x):
    return x * s.conv(x.mean((2, 3))[:, None]).sigmoid()[0, 0][:, None, None]


def shuffle(s, x):
    y = s.a(x)
    return s.b(y.view(len(y), 2, y.shape[1] // 2, *y.shape[2:]).transpose(1, 2).flatten(1, 2))


def fold(s, x):
    y = x.reshape(len(x) * 4, -1, *x.shape[2:])
    return (y * s.norm(s.conv(y)).sigmoid()).view_as(x)


def parity(s, x):
    return s.b(torch.cat((s.a(x)[:, ::2], s.a(x)[:, 1::2]), 1))


def own_attention(s, x):
    q, k, v = (layer(x).flatten(2) for layer in (s.q, s.k, s.v))
    weights = (q.transpose(1, 2) @ k * 0.2).softmax(-1)
    return x + s.out((v @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:]))


def deformed(s, x):
    return s.conv(x, s.offsets(x))


class Normalised(nn.LayerNorm):
    """Takes images, with channels first."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def chain(*layers):
    return Block(lambda s, x: s.layers(x), layers=nn.Sequential(*layers))


C = WIDTH
BLOCKS = {  # the layers that lose channels, besides the one in front
    "some of every group": (lambda: grouped(2), ["a", "b"]),
    "whole groups": (lambda: grouped(16), ["a", "b"]),
    "depthwise with a multiplier": (
        lambda: Block(lambda s, x: s.b(s.a(x)), a=conv(C, 2 * C, 3, groups=C), b=conv(2 * C)),
        ["a", "b"],
    ),
    "linear layers on a pooled vector": (lambda: Block(squeeze, a=nn.Linear(C, 8), b=nn.Linear(8, C)), ["b"]),
    "channels last, layer norm, scale": (
        lambda: Block(
            tokens,
            norm=nn.LayerNorm(C),
            wide=nn.Linear(C, 64),
            narrow=nn.Linear(64, C),
            scale=nn.Parameter(torch.ones(C, 1, 1)),
        ),
        ["wide", "narrow"],
    ),
    "attention in heads": (
        lambda: Block(attend, norm=nn.LayerNorm(C), attention=nn.MultiheadAttention(C, 4, batch_first=True)),
        [],
    ),
    "attention written out": (
        lambda: Block(own_attention, q=conv(C, 16), k=conv(C, 16), v=conv(), out=conv()),
        ["q", "k", "v", "out"],
    ),
    "split by a number": (lambda: Block(partial, some=8, conv=conv(8, 8, 3), mix=conv()), ["conv", "mix"]),
    "halves": (lambda: Block(halves, wide=conv(C, 2 * C), out=conv()), ["wide", "out"]),
    "mean and maximum over channels": (lambda: Block(gate, conv=conv(2, 1, 3)), []),
    "convolution over channels": (lambda: Block(neighbours, conv=nn.Conv1d(1, 1, 3, padding=1)), []),
    "channel shuffle": (lambda: Block(shuffle, a=conv(groups=2), b=conv()), ["a", "b"]),
    "groups as images": (lambda: Block(fold, conv=conv(8, 8), norm=nn.GroupNorm(8, 8)), ["conv"]),
    "every other channel": (lambda: Block(parity, a=conv(), b=conv()), ["a", "b"]),
    "pixel shuffle": (
        lambda: chain(conv(C, 4 * C), nn.PixelShuffle(2), conv(), nn.AvgPool2d(2)),
        ["layers.0", "layers.2"],
    ),
    "pixel unshuffle": (lambda: chain(nn.PixelUnshuffle(2), conv(4 * C), nn.Upsample(scale_factor=2)), ["layers.1"]),
    "groups by a group norm": (lambda: chain(conv(), nn.GroupNorm(16, C), conv()), ["layers.0", "layers.2"]),
    "some of every group of a group norm": (
        lambda: chain(conv(), nn.GroupNorm(2, C), conv()),
        ["layers.0", "layers.2"],
    ),
    "instance norm": (lambda: chain(conv(), nn.InstanceNorm2d(C, affine=True), conv()), ["layers.0", "layers.2"]),
    "a layer norm of one's own": (lambda: chain(conv(), Normalised(C), conv()), ["layers.0", "layers.2"]),
    "a parameter for each channel": (lambda: chain(conv(), nn.PReLU(C), nn.PReLU(), conv()), ["layers.0", "layers.3"]),
    "activations": (
        lambda: chain(
            *(conv(), nn.ELU(), nn.Mish(), nn.LeakyReLU(), nn.Hardtanh(-9, 9), nn.SELU(), nn.CELU(), nn.SiLU(), conv()),
            *(nn.Softplus(), nn.Hardsigmoid(), nn.ReLU6(), nn.Threshold(0.1, 0.0), nn.Hardswish(), nn.GELU(), conv()),
        ),
        ["layers.0", "layers.8"],
    ),
    "deformable convolution": (
        lambda: Block(deformed, offsets=conv(C, 18), conv=DeformConv2d(C, C, 3, padding=1)),
        ["conv"],
    ),
    "transposed convolution in groups": (
        lambda: chain(nn.ConvTranspose2d(C, 64, 1, groups=2), conv(64)),
        ["layers.0", "layers.1"],
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_it_is_pruned_through(name):
    make, losing = BLOCKS[name]
    model = network(make())
    most = name == "attention written out" and NEEDS["attention in get_flops"]  # its products, of all pairs of pixels
    target = 1.06 if most else 1.5
    pruned, record = prune_model(model, Budget(target, round_to=1, global_pruning=False), prune_method="lamp")
    for layer in ("model.1.layer.conv", *(f"model.1.block.{part}" for part in losing)):
        assert len(record.channels[layer]["out"]) < outputs(model.get_submodule(layer)), layer
    assert [type(m) for m in pruned.modules()] == [type(m) for m in model.modules()]
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    for training in (False, True):
        expected, actual = (run_in_fp64(m, image, training) for m in (masked(model, record), pruned))
        assert actual.keys() == expected.keys()
        for output, value in expected.items():
            assert relative_difference(actual[output], value) < 1e-6, output


class Sampled(nn.Module):
    """Looks where a convolution says."""

    def __init__(self):
        super().__init__()
        self.where = conv(C, 2)

    def forward(self, x):
        return F.grid_sample(x, self.where(x).permute(0, 2, 3, 1).tanh(), align_corners=False)


def ramp(s, x):
    return s.conv(x) * torch.linspace(0.5, 1.5, x.shape[1])[:, None, None]


def fixed(s, x):
    return s.conv(x) + torch.zeros(1, C, 1, 1)


def viewed(s, x):
    return s.out(s.conv(x).view(len(x), 4, 8, *x.shape[2:]).flatten(1, 2))


def placed(s, x):
    return x * s.conv(x)[:, 3:4] * x[:, [5]]


WHOLE = {
    "coordinates": (Sampled, "where", "its outputs say where to look in model.1.block (Sampled)"),
    "numbers that no layer makes": (lambda: Block(ramp, conv=conv()), "conv", "its outputs meet numbers that no layer"),
    "a tensor of their number": (
        lambda: Block(fixed, conv=conv()),
        "conv",
        "meet a tensor of their number in model.1.block",
    ),
    "a view of their number": (
        lambda: Block(viewed, conv=conv(), out=conv()),
        "conv",
        "are cut up (view) in model.1.block (Block)",
    ),
    "their place": (lambda: Block(placed, conv=conv()), "conv", "its channel"),
    "a product over what is no layer's": (
        lambda: Block(
            lambda s, x: (s.conv(x).permute(0, 2, 3, 1) @ s.w).permute(0, 3, 1, 2),
            conv=conv(),
            w=nn.Parameter(torch.rand(C, C)),
        ),
        "conv",
        "a product mixes its channels along two dimensions in model.1.block (Block)",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_it_stays_whole_with_the_reason(name):
    make, layer, reason = WHOLE[name]
    model = network(make())
    pruned, record = prune_model(model, Budget(1.05, round_to=1), prune_method="lamp")
    assert reason in record.left_dense[f"model.1.block.{layer}"]
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 64, 64)) < 1e-4


def test_only_what_fails_a_trial_cut_stays_whole():
    """Of two blocks in doubt, one counts on a number of channels."""
    model = network(
        nn.Sequential(Block(viewed, conv=conv(), out=conv()), Block(halves, wide=conv(C, 2 * C), out=conv()))
    )
    form = prunable_copy(model)
    doubted, sound = Graph(form), sound_graph(form)
    assert {g.name for g in doubted.groups} - {g.name for g in sound.groups} == {"model.1.block.0.conv"}
    assert {g.name for g in sound.groups if g.doubt} == {"model.1.block.1.wide"}
    assert sound.left_dense["model.1.block.0.conv"].endswith(
        "(view) in model.1.block.0 (Block), which counts on their number"
    )


def interleaved(s, x):
    b, c, h, w = x.shape
    return s.out(s.conv(x).view(b, 2, c // 2, h, w).transpose(1, 2).reshape(x.shape))


def test_losses_that_make_up_for_each_other_are_made_together():
    """The block takes any number of channels that its input has as well: two groups, which one cut may make equal."""
    out = nn.Sequential(conv(groups=2), *(conv() for _ in range(6)))  # so many that two losses are equal by chance
    model = network(Block(interleaved, conv=conv(groups=2), out=out))
    form = prunable_copy(model)
    graph = Graph(form)
    assert any(g.doubt for g in graph.groups)
    assert is_right(graph, graph.groups)  # or there is nothing to see
    sound = sound_graph(form)
    assert not [name for name in sound.left_dense if name.startswith("model.1")]
    assert len(sound.groups) == len(graph.groups) - 1
    for target in (1.05, 1.2):
        pruned, record = prune_model(model, Budget(target, round_to=1, global_pruning=False), prune_method="lamp")
        assert largest_difference(model, pruned, record, torch.rand(1, 3, 64, 64)) < 1e-4


def test_a_number_of_channels_that_a_block_holds_follows():
    pruned, _ = prune_model(
        network(Block(partial, some=8, conv=conv(8, 8, 3), mix=conv())),
        Budget(1.5, round_to=1, global_pruning=False),
        prune_method="lamp",
    )
    block = pruned.model[1].block
    assert block.some == block.conv.in_channels < 8


def test_a_number_that_is_one_of_channels_by_chance_stays():
    """Four groups of eight channels, and a number of eight that is none of channels."""
    model = network(Block(fold, eight=8, conv=conv(8, 8), norm=nn.GroupNorm(8, 8)))
    model.model[1].block.run = lambda s, x: fold(s, x) * (s.eight / 4)
    pruned, record = prune_model(model, Budget(1.5, round_to=1, global_pruning=False), prune_method="lamp")
    assert pruned.model[1].block.eight == 8
    assert len(record.channels["model.1.block.conv"]["out"]) < 8
