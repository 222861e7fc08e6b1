# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection heads of one's own are cut through, and what leaves them stays."""

from dataclasses import dataclass

import pytest
import torch
from own_heads import HEADS, Decoded, Foreign, Helped, Judged, Labelled, Paired, Shared, Stemmed, Twice, with_head

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.classes import renew_classes
from ultralytics.engine.pruning.graph.ends import find_ends, observed_ends
from ultralytics.engine.pruning.graph.heads import Ends, find_head
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.outputs import flatten, set_in_training
from ultralytics.engine.pruning.graph.trace import trace
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import largest_difference, masked, relative_difference
from ultralytics.engine.pruning.surgery.wrong import WRONG
from ultralytics.nn.extra_modules.prunable import prunable_copy


@dataclass
class Found:
    """Outputs by name."""

    one: torch.Tensor
    several: list
    named: dict


STAYING = ("weigh", "help", "aux")  # one weight for each level, what costs nothing in inference


@pytest.mark.parametrize("kind", HEADS)
def test_what_lies_before_the_predictions_is_cut(yolov8n, kind):
    torch.manual_seed(0)
    model = with_head(yolov8n, kind)
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False, round_to=1), prune_method="lamp")
    assert record.reached == pytest.approx(2, rel=0.02)
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 96, 160)) < 1e-4
    head = dict(model.model[-1].named_modules())
    ends = find_ends(model, example_image(model)).predictions
    for name, layer in head.items():
        is_maker = isinstance(layer, torch.nn.Conv2d) and layer.out_channels > 1
        if is_maker and layer not in ends and not name.startswith(STAYING):
            assert pruned.model[-1].get_submodule(name).out_channels < layer.out_channels, name
    assert not any(reason == WRONG for reason in record.left_dense.values())
    numbers = ("nc", "nl", "no", "reg_max")
    assert [getattr(pruned.model[-1], n) for n in numbers] == [getattr(model.model[-1], n) for n in numbers]
    images = torch.rand(2, 3, 64, 64)
    for mode in (True, False):
        shapes = [{k: v.shape for k, v in flatten(m.train(mode)(images)).items()} for m in (model, pruned)]
        assert shapes[0] == shapes[1]


def test_an_observed_end_is_what_leaves_the_network(yolov8n):
    """Of a stock head the trace finds the same as the table, and the layer that decodes boxes."""
    model = prunable_copy(yolov8n)
    example = example_image(model)
    observed = observed_ends(trace(model, Ends([], observed=True), example)).predictions
    known = find_ends(model, example).predictions
    assert set(observed) == {*known, model.model[-1].dfl.conv}


@pytest.mark.parametrize("kind", [Helped, Twice])
def test_what_training_alone_computes_is_that_of_the_masked_model(yolov8n, kind):
    torch.manual_seed(0)
    model = with_head(yolov8n, kind)
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False, round_to=1), prune_method="lamp")
    image = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        actual, expected = (flatten(set_in_training(m)(image)) for m in (pruned, masked(model, record)))
    assert len(expected) > len(flatten(model.eval()(image)[1]))
    assert max(relative_difference(actual[name], value) for name, value in expected.items()) < 1e-4


@pytest.mark.parametrize("kind", [Decoded, Paired, Labelled])
def test_scores_are_compared_beside_boxes_in_pixels(yolov8n, kind):
    """What is small against the largest value of a tensor, or in one that stock heads decode from another."""
    torch.manual_seed(0)
    model = with_head(yolov8n, kind)
    _, record = prune_model(model, Budget(1.5, global_pruning=False), prune_method="lamp")
    assert {k for k, why in record.left_dense.items() if why == WRONG} == {
        f"model.22.scores.{i}.0.conv" for i in range(3)
    }


@pytest.mark.parametrize("kind", [Judged, Helped, Stemmed])
def test_a_model_is_left_as_it_was(yolov8n, kind):
    model = with_head(yolov8n, kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    find_ends(model, example_image(model))
    assert [m.training for m in model.modules()] == modes
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_what_is_no_head_is_refused(yolov8n):
    model = with_head(yolov8n, Foreign)
    del model.model[-1].reg_max
    with pytest.raises(ValueError, match=r"ends in none of the heads.*nc, reg_max, stride, which Foreign lacks"):
        find_head(model)


@pytest.mark.parametrize("kind", [Shared, Foreign])
def test_other_classes_are_refused_where_nobody_knows_their_branches(yolov8n, kind):
    with pytest.raises(ValueError, match=f"has 7 classes and the pruned model 4, and its head {kind.__name__}"):
        renew_classes(with_head(yolov8n, kind), 7)


def test_other_classes_are_refused_of_a_head_without_class_branches(yolov8n):
    model = with_head(yolov8n, Stemmed)
    del model.model[-1].cv3
    with pytest.raises(ValueError, match="none of the class branches of a Detect"):
        renew_classes(model, 7)


def test_other_classes_of_a_head_with_the_branches_of_a_stock_one(yolov8n):
    model = with_head(yolov8n, Stemmed)
    renew_classes(model, 7)
    assert flatten(model(torch.zeros(1, 3, 64, 64))[1])["scores"].shape[1] == 7


def test_a_head_that_puts_out_no_tensor_is_refused(yolov8n):
    model = with_head(yolov8n, Stemmed)
    model.model[-1].forward = lambda x: "nothing"
    with pytest.raises(ValueError, match="puts out nothing that a layer has made"):
        find_ends(model, example_image(model))


def test_outputs_are_found_in_what_holds_tensors():
    found = Found(torch.zeros(1), [torch.ones(2), 3, None, "text"], {"feats": torch.zeros(4), "more": (torch.ones(3),)})
    assert {name: value.numel() for name, value in flatten(found).items()} == {
        "one": 1,
        "several.0": 2,
        "named.more.0": 3,
    }
