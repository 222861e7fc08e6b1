# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every family and every task: pruned equals masked, in inference and in training, in stock classes that still fuse."""

from copy import deepcopy

import pytest
import torch
from conftest import FAMILIES, TASKS, also_slow, build_model, predict
from torch import nn

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.ends import find_ends
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import masked, raw_outputs
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.modules.block import ADown
from ultralytics.nn.modules.head import Classify
from ultralytics.nn.tasks import RTDETRDetectionModel

IMAGE = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))
TARGETS = {"yolov8n-rtdetr": 1.5}  # its decoder, whose width stays, is most of its FLOPs
OTHERS = ["yolov8n-rtdetr", "yolov8n-worldv2"]


@pytest.fixture(scope="module", params=also_slow([*FAMILIES, *OTHERS, *TASKS], ["rtdetr-resnet50", "yolov8s-world"]))
def pair(request):
    """A dense model, and its pruned copy with the record."""
    dense = build_model(request.param)
    return dense, *prune_model(dense, Budget(TARGETS.get(request.param, 2.0)), prune_method="lamp")


def assert_same(actual, expected, share=1e-4):
    """Compare outputs to a share of the largest."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp_min(1e-6)
        torch.testing.assert_close(actual[name] / scale, value / scale, rtol=0, atol=share)


def test_target_is_met(pair):
    dense, pruned, record = pair
    assert record.reached == pytest.approx(count_flops(dense) / count_flops(pruned))
    assert record.target <= record.reached <= 1.03 * record.target


def test_pruned_equals_masked(pair):
    dense, pruned, record = pair
    outputs = raw_outputs(pruned, IMAGE)
    assert_same(outputs, raw_outputs(masked(dense, record), IMAGE))
    other = raw_outputs(pruned, IMAGE.flip(3) * 0.5)
    assert any(not torch.allclose(other[k], v, rtol=1e-2) for k, v in outputs.items())  # it looks at the image


def test_pruned_equals_masked_in_training(pair):
    """Layers that run in training only, auxiliary heads and one-to-many branches among them, were cut as well."""
    dense, pruned, record = pair
    results = []
    for model in (deepcopy(pruned), masked(dense, record)):
        model.train()
        for m in model.modules():
            if isinstance(m, (nn.BatchNorm2d, nn.Dropout)):
                m.eval()
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(flatten(predict(model, IMAGE)))
    assert_same(*results)


def test_classes_are_stock_and_fuse(pair):
    dense, pruned, _ = pair
    assert [type(m) for m in pruned.modules()] == [type(m) for m in dense.modules()]
    fused = deepcopy(pruned).fuse(verbose=False)
    if isinstance(pruned, RTDETRDetectionModel):  # of whose few queries one that is swapped is a large share
        assert_same(raw_outputs(fused, IMAGE), raw_outputs(pruned, IMAGE), 1e-3)
        return
    with torch.no_grad():
        before, after = (m(IMAGE) for m in (pruned, fused))
    before, after = (flatten(o[0] if isinstance(o, tuple) else o) for o in (before, after))
    for name, value in before.items():
        differs = (after[name] - value).abs() > 1e-3 * value.abs().max()
        assert differs.float().mean() < 0.01  # rounding may swap near ties among the best


def test_only_what_says_so_stays_whole(pair):
    dense, _, record = pair
    ends = find_ends(dense, example_image(dense))
    names = {m: name for name, m in dense.named_modules()}
    others = {k: v for k, v in record.left_dense.items() if k not in {names[m] for m in ends.predictions}}
    numbers = {k for k, v in others.items() if "meet numbers that no layer makes" in v}  # AIFI's embedding of positions
    assert {v for k, v in others.items() if k not in numbers} <= {*ends.fixed.values()}
    assert numbers <= {"model.5.conv", "model.6.fc2", "model.16.proj"}  # or World's embeddings of class names


@pytest.mark.parametrize("name", ["yolo11n", "yolo12n"])
def test_heads_lose_equally_many_channels(name):
    dense = build_model(name)
    pruned, _ = prune_model(dense, Budget(3, round_to=1), prune_method="lamp")
    before, after = ([m for m in model.modules() if hasattr(m, "qkv")] for model in (dense, pruned))
    assert before and any(a.head_dim < b.head_dim for a, b in zip(after, before))
    for a, b in zip(after, before):
        assert a.num_heads == b.num_heads
        per_head = 2 * getattr(a, "key_dim", a.head_dim) + a.head_dim
        assert a.qkv.conv.out_channels == a.num_heads * per_head
        assert a.pe.conv.out_channels == a.proj.conv.in_channels == a.num_heads * a.head_dim


def test_both_halves_of_what_feeds_an_adown_lose_equally_many_channels():
    pruned, record = prune_model(build_model("yolov9c"), Budget(2, round_to=1), prune_method="lamp")
    blocks = {name: m for name, m in pruned.named_modules() if isinstance(m, ADown)}
    for name, block in blocks.items():
        producer = record.channels[f"model.{block.i - 1}.cv4.conv"]["out"]
        first, second = (record.channels[f"{name}.{conv}.conv"]["in"] for conv in ("cv1", "cv2"))
        dense_half = {3: 128, 5: 256, 7: 256, 16: 128, 19: 256}[block.i]
        assert len(first) == len(second) == block.cv1.conv.in_channels == block.cv2.conv.in_channels
        assert producer == [*first, *(i + dense_half for i in second)]
    assert any(block.cv1.conv.in_channels < 128 for block in blocks.values())


def test_pooled_features_of_a_classifier_are_pruned():
    """The budget is met although the classifier, which works on one pixel, has the most of the weights."""
    pruned, record = prune_model(build_model("yolo11n-cls", nc=1000), Budget(2), prune_method="lamp")
    assert record.reached == pytest.approx(2, rel=0.01)
    head = pruned.model[-1]
    assert type(head) is Classify
    assert head.linear.in_features == head.conv.conv.out_channels < 1280


def test_graph_is_fast_where_torch_pruning_hangs():
    model = prunable_copy(build_model("yolo11n"))
    assert len(Graph(model).groups) == 71
