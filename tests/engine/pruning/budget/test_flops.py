# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs are Ultralytics' figure, and counting them is safe for every network."""

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.engine.pruning.budget import flops as flops_module
from ultralytics.engine.pruning.budget.costs import TOLERANCE
from ultralytics.engine.pruning.budget.flops import FlopsFormula, count_flops
from ultralytics.engine.pruning.budget.products import product_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.utils.torch_utils import get_flops


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo26n-seg", "yolov8n-cls", "rtdetr-l"])
def test_count_is_what_ultralytics_prints(name):
    model = build_model(name)
    assert count_flops(model) == get_flops(model) == model.info(imgsz=640)[-1]


def test_the_model_is_never_run_on_uninitialised_memory(yolov8n, monkeypatch):
    """Torchvision's deformable convolution ends the process on it."""

    def garbage(*size, **kwargs):
        return torch.full(size[0] if isinstance(size[0], tuple) else size, float("nan"), **kwargs)

    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(x.abs().max().item())
            return x

    model = build_model("yolov8n")
    model.model[0].conv = nn.Sequential(Watch(), model.model[0].conv)
    monkeypatch.setattr(torch, "empty", garbage)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, size: garbage(*size))
    assert count_flops(model) == count_flops(yolov8n)
    assert set(seen) == {0.0}
    assert not model._forward_pre_hooks


class Pairs(nn.Module):
    """Attention over all pairs of pixels, without prunable form; its products are most of the FLOPs."""

    def __init__(self, channels):
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x):
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        return x + (v @ (q.transpose(1, 2) @ k).softmax(1)).view_as(x)


def test_products_of_a_block_without_form_follow_its_layers():
    model = build_model("yolov8n")
    model.model[4].cv2 = nn.Sequential(model.model[4].cv2, Pairs(64))
    copy = prunable_copy(model)
    formula = FlopsFormula(Graph(copy))
    pixels, products = 80 * 80, 2 * 2 * 64 * (80 * 80) ** 2
    found = product_flops(model, torch.zeros(1, 3, 64, 64), 640**2)
    assert found == {model.model[4].cv2[1]: pytest.approx(products)}
    assert formula.dense == pytest.approx(count_flops(model) * 1e9, rel=1e-9)
    assert not formula.is_exact and abs(formula.rest) < 1e-3 * formula.dense
    queries = formula.costs(formula.widths.sizes)[copy.model[4].cv2[1].q]
    assert queries == pytest.approx(products / 3 + 2 * pixels * 64 * 64)


def test_products_that_a_form_accounts_for_are_not_looked_for():
    assert FlopsFormula(Graph(prunable_copy(build_model("yolo11n")))).is_exact


def test_a_target_is_met_where_the_flops_of_products_are_estimated():
    model = build_model("yolov8n")
    model.model[4].cv2 = nn.Sequential(model.model[4].cv2, Pairs(64))
    _, record = prune_model(model, Budget(2.0, global_pruning=False), prune_method="lamp")
    assert record.reached == pytest.approx(2, rel=TOLERANCE)


def test_estimates_that_exceed_the_whole_are_brought_down_to_it(yolov8n, monkeypatch):
    """A window that is padded in the small image costs more there than it does at 640 pixels."""
    graph = Graph(prunable_copy(yolov8n))
    least = [1] * len(graph.groups)
    exact = FlopsFormula(graph)
    monkeypatch.setattr(flops_module, "count_flops", lambda model: 0.5 * count_flops(model))
    formula = FlopsFormula(graph)
    assert formula.rest == 0 and formula.dense == pytest.approx(exact.dense / 2)
    assert formula(least) == pytest.approx(exact(least) / 2, rel=1e-6) and formula(least) > 0
