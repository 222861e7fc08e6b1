# SPDX-License-Identifier: AGPL-3.0-or-later
"""A pruned network equals the dense one with the pruned channels masked to zero."""

from copy import deepcopy

import pytest
import torch
from conftest import YOLOV8, build_model, masked, raw_outputs
from torch import nn

from ultralytics.engine.pruning.prune import prune_model


@pytest.fixture(scope="module", params=YOLOV8)
def dense(request):
    return build_model(request.param)


@pytest.mark.parametrize("global_pruning", [True, False])
@pytest.mark.parametrize("speed_up", [1.2, 2, 4])
def test_pruned_equals_masked(dense, global_pruning, speed_up):
    pruned, record = prune_model(dense, speed_up, global_pruning=global_pruning, round_to=1)
    side = 2 * int(dense.stride.max())
    image = torch.rand(1, 3, side, side)
    expected, outputs = raw_outputs(masked(dense, record), image), raw_outputs(pruned, image)
    for k, v in expected.items():
        assert v.std() > 1e-3  # a constant output would prove nothing
        torch.testing.assert_close(outputs[k], v, rtol=1e-4, atol=1e-4 * v.abs().max().item())


def test_record_is_enough_to_check_the_cut(yolov8n):
    pruned, record = prune_model(yolov8n, 2)
    layers, originals = dict(pruned.named_modules()), dict(yolov8n.named_modules())
    convs = {name for name, m in originals.items() if isinstance(m, nn.Conv2d)}
    assert set(record["channels"]) == convs
    for name, kept in record["channels"].items():
        expected = originals[name].weight[kept["out"]][:, kept["in"]]
        assert torch.equal(layers[name].weight, expected), name


def test_pruned_model_is_stock(yolov8n):
    pruned, _ = prune_model(yolov8n, 2)
    assert [type(m) for m in pruned.modules()] == [type(m) for m in yolov8n.modules()]
    assert not any("extra_modules" in type(m).__module__ for m in pruned.modules())
    assert not pruned.training and next(pruned.parameters()).dtype == torch.float32


def test_dense_model_is_left_alone(yolov8n):
    model = deepcopy(yolov8n).train()
    before = deepcopy(model.state_dict())
    prune_model(model, 2)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_pruned_model_can_be_pruned_again(yolov8n):
    once, _ = prune_model(yolov8n, 2)
    twice, record = prune_model(once, 2)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        raw_outputs(twice, image), raw_outputs(masked(once, record), image), rtol=1e-4, atol=1e-4
    )


def test_half_precision_source(yolov8n):
    pruned, record = prune_model(deepcopy(yolov8n).half(), 2)
    assert record["reached"] == pytest.approx(2, rel=0.03)
    assert next(pruned.parameters()).dtype == torch.float32


def test_fused_model_is_refused(yolov8n):
    with pytest.raises(ValueError, match="fused for inference"):
        prune_model(deepcopy(yolov8n).fuse(verbose=False), 2)
