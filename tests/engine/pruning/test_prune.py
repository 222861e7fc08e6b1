# SPDX-License-Identifier: AGPL-3.0-or-later
"""A pruned network equals the dense one with the pruned channels masked to zero."""

from copy import deepcopy

import pytest
import torch
from conftest import LARGE_YOLOV8, YOLOV8, also_slow, build_model, kept_weights
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.surgery.oracle import masked, raw_outputs


@pytest.fixture(scope="module", params=also_slow(YOLOV8, LARGE_YOLOV8))
def dense(request):
    return build_model(request.param)


@pytest.mark.parametrize("global_pruning", [True, False])
@pytest.mark.parametrize("speed_up", [1.2, 2, 4])
def test_pruned_equals_masked(dense, global_pruning, speed_up):
    pruned, record = prune_model(
        dense, Budget(speed_up, global_pruning=global_pruning, round_to=1), prune_method="lamp"
    )
    side = 2 * int(dense.stride.max())
    image = torch.rand(1, 3, side, side)
    expected, outputs = raw_outputs(masked(dense, record), image), raw_outputs(pruned, image)
    for k, v in expected.items():
        assert v.std() > 1e-3  # a constant output would prove nothing
        torch.testing.assert_close(outputs[k], v, rtol=1e-4, atol=1e-4 * v.abs().max().item())


def losses(model):
    """Yield three losses that every weight of the network has a say in."""
    for seed in range(3):
        image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        yield sum(part.pow(2).mean() for part in flatten(model(image)).values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("global_pruning", [True, False])
@pytest.mark.parametrize("speed_up", also_slow([2], [1.5, 3]))
def test_every_method_meets_the_target_exactly(yolov8n, method, global_pruning, speed_up):
    for round_to, tolerance in ((1, 0.01), (8, 0.03)):
        pruned, record = prune_model(
            yolov8n,
            Budget(speed_up, global_pruning=global_pruning, round_to=round_to),
            losses=losses,
            prune_method=method,
        )
        assert speed_up * (1 - 1e-9) <= record.reached <= speed_up * (1 + tolerance)
    image = torch.rand(1, 3, 64, 64)
    expected, outputs = raw_outputs(masked(yolov8n, record), image), raw_outputs(pruned, image)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["yolov6n", "yolov8n-seg"])
@pytest.mark.parametrize("method", ["slim", "group_slim"])
def test_layers_without_batch_norm_stay_whole_where_it_ranks(name, method):
    model = build_model(name)
    pruned, record = prune_model(model, Budget(1.5, round_to=1), prune_method=method)
    reason = "it has no batch norm, by whose scale the method ranks"
    whole = [layer for layer, why in record.left_dense.items() if why == reason]
    layers = dict(pruned.named_modules()), dict(model.named_modules())
    assert whole and all(layers[0][k].out_channels == layers[1][k].out_channels for k in whole)
    assert prune_model(model, Budget(1.5), prune_method="lamp")[1].left_dense.keys().isdisjoint(whole)
    image = torch.rand(1, 3, 64, 64)
    expected, outputs = raw_outputs(masked(model, record), image), raw_outputs(pruned, image)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prune_method": "lampp"}, "'prune_method=lampp' is invalid. Valid 'prune_method' values are lamp"),
        ({"iterative_steps": 0}, "'iterative_steps=0' is an invalid value"),
        ({"prune_method": "group_taylor", "losses": lambda model: iter(())}, "'losses' yielded no loss"),
        (
            {"prune_method": "group_taylor", "losses": lambda model: (loss * torch.nan for loss in losses(model))},
            "channels of model.* and others have scores that are not finite",
        ),
    ],
)
def test_what_cannot_be_ranked_is_refused(yolov8n, keys, message):
    with pytest.raises(ValueError, match=message):
        prune_model(yolov8n, Budget(1.5), **{"prune_method": "lamp", **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"budget": 2.0}, r"'budget=2.0' is of invalid type float. 'budget' must be a Budget, i.e. Budget\(speed_up="),
        ({"iterative_steps": "2"}, "'iterative_steps=2' is of invalid type str"),
        ({"iterative_steps": 1.5}, "'iterative_steps=1.5' is of invalid type float"),
        ({"iterative_steps": None}, "'iterative_steps=None' is invalid"),
        ({"losses": [1.0]}, "'losses' is of invalid type list. 'losses' must take a model and yield its losses"),
        ({"losses": lambda model: [1.0]}, "'losses' yielded a float. 'losses' must yield tensors of one number"),
        ({"losses": lambda model: [torch.ones(3)]}, r"'losses' yielded a tensor of shape \(3,\)"),
    ],
)
def test_arguments_of_other_types_are_refused(yolov8n, keys, message):
    with pytest.raises(TypeError, match=message):
        prune_model(yolov8n, **{"budget": Budget(1.5), "prune_method": "group_taylor", "losses": losses, **keys})


def test_losses_that_move_batch_norms_are_refused(yolov8n):
    with pytest.raises(ValueError, match="'losses' has put batch norms into train mode"):
        prune_model(yolov8n, Budget(1.5), losses=lambda model: losses(model.train()))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, spectral_norm])
def test_layers_that_compute_their_weights_are_refused(norm):
    model = YOLO("yolov8n.yaml").model
    norm(model.model[3].conv)
    with pytest.raises(ValueError, match="'model.3.conv' computes its weight from others"):
        prune_model(model, Budget(1.5), prune_method="lamp")


def test_weights_that_are_not_finite_are_refused(yolov8n):
    broken = deepcopy(yolov8n)
    broken.model[5].conv.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match="weights that are not finite, 'model.5.conv.weight' first"):
        prune_model(broken, Budget(1.5), prune_method="lamp")


@pytest.mark.parametrize("steps", [1, 4])
def test_iterative_steps_compose(yolov8n, steps):
    pruned, record = prune_model(
        yolov8n, Budget(3, max_sparsity=0.75), losses=losses, iterative_steps=steps, prune_method="group_taylor"
    )
    assert record.reached == pytest.approx(3, rel=0.03)
    layers, originals = dict(pruned.named_modules()), dict(yolov8n.named_modules())
    for name, kept in record.channels.items():
        assert torch.equal(layers[name].weight, kept_weights(originals[name], kept)), name
        assert len(kept["out"]) >= originals[name].out_channels / 4, name


def test_gradients_leave_the_model_as_it_was():
    build_model("yolov8n")  # and keeps it, to make copies of
    YOLO("yolov8n.yaml").model.train()  # another model, with whose activation the copies have nothing to do
    model = build_model("yolov8n")
    before, gradients = deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    pruned, _ = prune_model(model, Budget(2), losses=losses, prune_method="group_hessian")
    for m in (model, pruned):
        assert all(p.grad is None and p.requires_grad == takes_part for p, takes_part in zip(m.parameters(), gradients))
        assert not [name for name, layer in m.named_modules() if layer.training]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_gradient_method_without_losses_is_refused(yolov8n):
    with pytest.raises(ValueError, match="'prune_method=group_taylor' needs gradients"):
        prune_model(yolov8n, Budget(2), prune_method="group_taylor")


def test_record_is_enough_to_check_the_cut(yolov8n):
    pruned, record = prune_model(yolov8n, Budget(2), prune_method="lamp")
    layers, originals = dict(pruned.named_modules()), dict(yolov8n.named_modules())
    convs = {name for name, m in originals.items() if isinstance(m, nn.Conv2d)}
    assert set(record.channels) == convs
    for name, kept in record.channels.items():
        assert torch.equal(layers[name].weight, kept_weights(originals[name], kept)), name


def test_pruned_model_is_stock(yolov8n):
    pruned, _ = prune_model(yolov8n, Budget(2), prune_method="lamp")
    assert [type(m) for m in pruned.modules()] == [type(m) for m in yolov8n.modules()]
    assert not any("extra_modules" in type(m).__module__ for m in pruned.modules())
    assert not pruned.training and next(pruned.parameters()).dtype == torch.float32


def test_dense_model_is_left_alone(yolov8n):
    model = deepcopy(yolov8n).train()
    before = deepcopy(model.state_dict())
    prune_model(model, Budget(2), prune_method="lamp")
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_pruned_model_can_be_pruned_again(yolov8n):
    once, _ = prune_model(yolov8n, Budget(2), prune_method="lamp")
    twice, record = prune_model(once, Budget(2), prune_method="lamp")
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        raw_outputs(twice, image), raw_outputs(masked(once, record), image), rtol=1e-4, atol=1e-4
    )


def test_half_precision_source(yolov8n):
    pruned, record = prune_model(deepcopy(yolov8n).half(), Budget(2), prune_method="lamp")
    assert record.reached == pytest.approx(2, rel=0.03)
    assert next(pruned.parameters()).dtype == torch.float32


def test_fused_model_is_refused(yolov8n):
    with pytest.raises(ValueError, match="fused for inference"):
        prune_model(deepcopy(yolov8n).fuse(verbose=False), Budget(2), prune_method="lamp")


def test_a_yolo_object_is_no_network(yolov8n):
    with pytest.raises(
        TypeError, match=r"'model' must be an Ultralytics network, not a YOLO. Pass .* YOLO\(...\).model"
    ):
        prune_model(YOLO("yolov8n.yaml"), Budget(2), prune_method="lamp")
    with pytest.raises(TypeError, match="not a Conv2d."):
        prune_model(torch.nn.Conv2d(1, 1, 1), Budget(2), prune_method="lamp")


def test_the_library_has_a_face():
    from ultralytics.engine import pruning

    assert pruning.prune_model is prune_model and pruning.METHODS is METHODS
    assert {*pruning.__all__} <= {*dir(pruning)}
    assert all(getattr(pruning, name) for name in pruning.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'prune_modle'"):
        pruning.prune_modle  # noqa: B018


@pytest.mark.parametrize("speed_up", [1.5, 3])
def test_area_attention_is_as_wide_as_its_input(speed_up):
    """Ultralytics before 8.4.34 takes the one for the other."""
    pruned, _ = prune_model(build_model("yolo12n"), Budget(speed_up), prune_method="lamp")
    blocks = [m for m in pruned.modules() if type(m).__name__ == "AAttn"]
    assert blocks and all(m.qkv.conv.in_channels == m.num_heads * m.head_dim for m in blocks)
