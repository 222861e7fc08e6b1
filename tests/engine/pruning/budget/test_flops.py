# SPDX-License-Identifier: AGPL-3.0-or-later
"""FLOPs are Ultralytics' figure, and counting them is safe for every network."""

import pytest
import thop
import torch
from conftest import build_model, needs
from torch import nn

from ultralytics.engine.pruning.budget import flops as flops_module
from ultralytics.engine.pruning.budget import flops_formula
from ultralytics.engine.pruning.budget.costs import TOLERANCE
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.products import product_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.utils.torch_utils import get_flops


@needs("attention in get_flops")
@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo26n-seg", "yolov8n-cls", "rtdetr-l"])
def test_count_is_what_ultralytics_prints(name):
    model = build_model(name)
    assert count_flops(model) == get_flops(model) == model.info(imgsz=640)[-1]


@needs("attention in get_flops")
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


@needs("attention in get_flops")
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
    monkeypatch.setattr(flops_formula, "count_flops", lambda model: 0.5 * count_flops(model))
    formula = FlopsFormula(graph)
    assert formula.rest == 0 and formula.dense == pytest.approx(exact.dense / 2)
    assert formula(least) == pytest.approx(exact(least) / 2, rel=1e-6) and formula(least) > 0


class Native(nn.Module):
    """Attention by PyTorch's layer, which keeps the weights inside one operation."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).view_as(x)


class Odd(nn.Module):
    """A layer that fails in an image of a single stride."""

    def __init__(self, _channels):
        super().__init__()

    def forward(self, x):
        if x.shape[-2] == 1:
            raise ValueError("a single row")
        return x


def with_attention(attention, layer):
    """Return a yolov8n with attention in a layer, which Ultralytics' counter cannot count in its own small images."""
    model = build_model("yolov8n").eval()
    for i, module in ((layer, attention), (9, Odd)):
        block = model.model[i]
        width = block.cv2.conv.out_channels
        replaced = nn.Sequential(block, module(width))
        replaced.f, replaced.i, replaced.type = block.f, block.i, "Sequential"
        model.model[i] = replaced
    return model


@needs("attention in get_flops")
@pytest.mark.parametrize("attention", [Pairs, Native])
def test_attention_over_more_pixels_than_memory_has_room_for_is_counted_in_small_images(attention):
    """Stride 4: 25600 pixels, whose weights for one head are 2.6 GB."""
    model = with_attention(attention, 2)
    largest = []
    hook = model.model[0].register_forward_pre_hook(lambda _, args: largest.append(args[0].shape[2:].numel()))
    counted = count_flops(model) * 1e9
    hook.remove()
    assert max(largest) <= 3 * 64**2
    image = torch.empty(1, 32, 160, 160, device="meta")  # which takes no memory
    attended = 2 * thop.profile(attention(32).to("meta"), inputs=(image,), verbose=False)[0]
    assert attended > 2 * 2 * 25600**2 * 32  # two products
    assert counted == pytest.approx(count_flops(build_model("yolov8n")) * 1e9 + attended, rel=1e-6)


@needs("attention in get_flops")
def test_an_estimate_in_small_images_is_what_the_large_one_has(monkeypatch):
    model = with_attention(Pairs, 6)
    exact = count_flops(model)
    assert exact == get_flops(model)
    monkeypatch.setattr(flops_module, "LARGEST", 0)
    assert count_flops(model) == pytest.approx(exact, rel=1e-9)
