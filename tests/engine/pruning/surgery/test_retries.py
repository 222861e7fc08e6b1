# SPDX-License-Identifier: AGPL-3.0-or-later
"""A block that no trace understands stays whole, and the model around it is cut."""

import pytest
import torch
from odd_blocks import (
    Far,
    MixedGroups,
    Named,
    Normalised,
    Padded,
    Remembering,
    Residual,
    Shifted,
    Standardised,
    Tiled,
    Trained,
    with_block,
)
from torch import nn

from ultralytics.engine.pruning.budget.ahead import proven_graph
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.cut import SLICERS, slice_batch_norm
from ultralytics.engine.pruning.surgery.oracle import largest_difference
from ultralytics.engine.pruning.surgery.proof import WrongCutError
from ultralytics.engine.pruning.surgery.wrong import WRONG


def losses(model):
    """Yield a loss of the head's features."""
    yield sum(y.square().mean() for y in model(torch.rand(2, 3, 64, 64))["feats"])


KINDS = [Standardised, Residual, Trained, Padded, Normalised, Remembering, Shifted, Named, MixedGroups]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lamp", "group_taylor"])
def test_the_model_around_a_block_is_cut(yolov8n, kind, method):
    torch.manual_seed(0)
    model = with_block(yolov8n, Standardised(64, 64, 3, 1, 1) if kind is Standardised else kind(64))
    for speed_up, round_to in ((1.5, 1), (1.8, 8)):
        budget = Budget(speed_up, global_pruning=False, round_to=round_to)  # every group loses
        pruned, record = prune_model(model, budget, prune_method=method, losses=losses)
        assert record.reached == pytest.approx(speed_up, rel=0.03)
        assert largest_difference(model, pruned, record, torch.rand(2, 3, 96, 160)) < 1e-4
        pruned.train()(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize(("kind", "whole"), [(Tiled, set()), (Far, {"cv", "out"})])
def test_what_only_larger_maps_run_is_that_of_the_masked_model(yolov8n, kind, whole):
    torch.manual_seed(0)
    model = with_block(yolov8n, kind(64))
    pruned, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert largest_difference(model, pruned, record, torch.rand(1, 3, 512, 256)) < 1e-4
    assert {name.split(".")[3] for name in record.left_dense if name.startswith("model.4.1.")} == whole


def test_what_stays_whole_says_why(yolov8n, log):
    _, record = prune_model(with_block(yolov8n, Padded(64)), Budget(1.5, global_pruning=False), prune_method="lamp")
    assert record.left_dense["model.4.1.cv.conv"] == WRONG
    assert "A cut around 'model.4.1." in log.text


def test_it_is_known_before_anything_is_cut(yolov8n):
    """For a sensitivity map, a training towards sparsity and the reach of a target."""
    torch.manual_seed(0)
    model = with_block(yolov8n, Padded(64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = proven_graph(model)
    _, record = prune_model(model, Budget(1.8, global_pruning=False), prune_method="lamp")
    assert WRONG in graph.left_dense.values() and graph.left_dense == record.left_dense
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_as_many_blocks_as_a_backbone_has(yolov8n):
    model = yolov8n
    for place in (4, 6, 12):
        c = model.model[place].cv2.conv.out_channels
        model = with_block(model, nn.Sequential(Padded(c), Padded(c), Padded(c)), place)
    graph = proven_graph(model)
    assert sum(reason == WRONG for reason in graph.left_dense.values()) >= 9
    assert "model.5.conv" in {group.name for group in graph.groups}


def test_a_cut_that_is_wrong_everywhere_is_refused(yolov8n, monkeypatch):
    def shifted(norm, out_channels):
        slice_batch_norm(norm, (out_channels + 1) % norm.num_features)

    monkeypatch.setitem(SLICERS, nn.BatchNorm2d, shifted)
    monkeypatch.setattr("ultralytics.engine.pruning.surgery.wrong.RETRIES", 2)
    with pytest.raises(WrongCutError, match="the cut is wrong and nothing was saved"):
        prune_model(yolov8n, Budget(1.5, global_pruning=False), prune_method="lamp")
