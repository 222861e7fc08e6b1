# SPDX-License-Identifier: AGPL-3.0-or-later
"""Groups hold exactly the channels that go together."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.ends import find_ends
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.places import SLICED, WIDTHS, is_depthwise
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.cut import SLICERS
from ultralytics.engine.pruning.surgery.oracle import enliven, masked, raw_outputs
from ultralytics.nn.extra_modules.prunable import to_prunable
from ultralytics.nn.modules.block import C2f
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel


def trace(model):
    return Graph(to_prunable(deepcopy(model)))


def find(graph, name):
    return next(g for g in graph.groups if any(graph.names[s.layer] == name and s.axis == "out" for s in g.slices))


def test_every_convolution_output_is_in_one_group_or_left_dense(yolov8n):
    graph = trace(yolov8n)
    for conv in (m for name, m in graph.model.named_modules() if isinstance(m, nn.Conv2d) and "dfl" not in name):
        held = torch.cat(
            [s.channels for g in graph.groups for s in g.slices if (s.layer, s.axis) == (conv, "out")]
            or [torch.empty(0)]
        )
        expected = 0 if graph.names[conv] in graph.left_dense else conv.out_channels
        assert len(held) == len(held.unique()) == expected, graph.names[conv]


def test_residual_stream_is_one_group(yolov8n):
    graph = trace(yolov8n)
    group = find(graph, "model.4.cv1.conv")
    outputs = {graph.names[s.layer] for s in group.convs("out")}
    assert outputs == {"model.4.cv1.conv", "model.4.m.0.cv2.conv", "model.4.m.1.cv2.conv"}
    (consumer,) = [s for s in group.convs("in") if graph.names[s.layer] == "model.4.cv2.conv"]
    # cv2 reads the concatenation of cv0, cv1 and two bottlenecks, 32 channels each: this stream three times
    assert consumer.channels.tolist() == list(range(32, 128))
    assert consumer.units.tolist() == list(range(32)) * 3


def test_ghost_halves_meet_in_one_unit():
    """The output of a GhostConv is its own channels twice; added to a plain tensor it ties channel i to i + c/2."""
    graph = trace(build_model("yolov8n-ghost"))
    group = find(graph, "model.4.cv1.conv")
    (root,) = [s for s in group.convs("out") if graph.names[s.layer] == "model.4.cv1.conv"]
    assert group.size == 16
    assert root.units.tolist() == list(range(16)) * 2


def test_predictions_are_protected(yolov8n):
    head = yolov8n.model[-1]
    assert find_ends(yolov8n, example_image(yolov8n)).predictions == [
        b[-1] for branches in (head.cv2, head.cv3) for b in branches
    ]
    graph = trace(yolov8n)
    assert set(graph.left_dense.values()) == {"its outputs are the predictions"}
    assert len(graph.left_dense) == 6


def test_tracing_leaves_the_model_as_it_was(yolov8n):
    model = to_prunable(deepcopy(yolov8n))
    model.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Graph(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


class Spectrum(nn.Module):
    """Uses an operation that no rule knows."""

    def forward(self, x):
        return torch.fft.fft2(x).real


def test_group_that_reaches_an_unknown_operation_stays_dense_with_a_reason(yolov8n):
    model = deepcopy(yolov8n)
    model.model[2].m[0].cv1.act = Spectrum()
    graph = trace(model)
    reason = graph.left_dense["model.2.m.0.cv1.conv"]
    assert reason == "its channels cannot be followed through '_fft_c2c' in model.2.m.0.cv1.act (Spectrum)"
    assert find(graph, "model.4.m.0.cv1.conv")


class Shuffled(nn.Module):
    """Adds two concatenations that are shifted against each other, which ties every channel to all others."""

    def __init__(self, conv):
        super().__init__()
        half = conv.conv.out_channels // 2
        self.less, self.more = (Conv(conv.conv.in_channels, width) for width in (half - 1, half + 1))

    def forward(self, x):
        less, more = self.less(x), self.more(x)
        return torch.cat((less, more), 1) + torch.cat((more, less), 1)


class Long(nn.Module):
    """Many operations without a layer."""

    def forward(self, x):
        for _ in range(600):
            x = x * 0.999
        return x


def test_channels_that_are_all_tied_to_each_other_are_one_unit(yolov8n):
    model = deepcopy(yolov8n)
    model.model[6].cv2 = Shuffled(model.model[6].cv2)
    assert find(trace(model), "model.6.cv2.less.conv").size == 1


def test_many_operations_without_a_layer_are_followed(yolov8n):
    model = deepcopy(yolov8n)
    model.model[4].cv2.act = Long()
    assert find(trace(model), "model.4.cv2.conv").size == 64


class Broken(nn.Module):
    """Does not run."""

    def forward(self, x):
        return x[99]


def test_a_network_that_does_not_run_is_refused_with_the_modules_name(yolov8n):
    model = deepcopy(yolov8n)
    model.model[4].cv2.act = Broken()
    with pytest.raises(RuntimeError, match=r"does not run on an image of 64 pixels: model.4.cv2.act \(Broken\) raised"):
        trace(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_everything_that_can_lose_channels_has_a_slicer():
    assert {*SLICERS} == {*SLICED, *WIDTHS}


@pytest.mark.parametrize("widths", [(32, 32), (16, 48)])
def test_halves_of_several_layers_stay_dense_and_exact(widths):
    """ADown halves a concatenation: equal halves of the whole cannot be had from its parts alone."""
    first, second = widths
    backbone = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [first, 3, 2]],
        [0, 1, "Conv", [second, 3, 2]],
        [[1, 2], 1, "Concat", [1]],
        [-1, 1, "ADown", [64]],
        [-1, 1, "Conv", [64, 3, 2]],
    ]
    head = [[[4, 5], 1, "Detect", ["nc"]]]
    model = DetectionModel({"nc": 4, "backbone": backbone, "head": head}, verbose=False)
    enliven(model, model.predict)
    pruned, record = prune_model(model, Budget(1.2), prune_method="lamp")
    reasons = [record.left_dense[f"model.{i}.conv"] for i in (1, 2)]
    assert reasons == ["they are halved together with channels of other layers (model.4.cv1.conv)"] * 2
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        raw_outputs(pruned, image), raw_outputs(masked(model, record), image), rtol=1e-4, atol=1e-4
    )


def test_depthwise():
    assert is_depthwise(nn.Conv2d(4, 4, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(1, 1, 3))


class UnknownC2f(C2f):
    """A user's own block, which the table of prunable forms does not know."""


def test_block_without_prunable_form_loses_the_same_channels_of_both_halves(yolov8n):
    model = deepcopy(yolov8n)
    model.model[4].__class__ = UnknownC2f
    pruned, record = prune_model(model, Budget(2, global_pruning=False), prune_method="lamp")
    assert not any(name.startswith("model.4.") for name in record.left_dense)
    kept = torch.tensor(record.channels["model.4.cv1.conv"]["out"])
    assert len(kept) < 64 and torch.equal(kept[: len(kept) // 2] + 32, kept[len(kept) // 2 :])
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        raw_outputs(pruned, image), raw_outputs(masked(model, record), image), rtol=1e-4, atol=1e-4
    )


def test_what_feeds_a_decoder_stays_for_that_reason():
    graph = trace(build_model("yolov8n-rtdetr"))
    head = graph.model.model[-1]
    projections = [graph.names[proj[0]] for proj in head.input_proj]
    assert {graph.left_dense[name] for name in projections} == {"it feeds the decoder, whose width is fixed"}
    assert {graph.left_dense[graph.names[m]] for m in graph.protected} == {"its outputs are the predictions"}
    inside = {graph.names[layer.linear1] for layer in head.decoder.layers}
    assert inside <= {group.name for group in graph.groups}
