# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms compute what their stock blocks compute, both ways."""

from copy import deepcopy

import pytest
import torch
from conftest import YOLOV8, build_model, raw_outputs

from ultralytics.nn.extra_modules import PRUNABLE_FORMS, to_prunable, to_stock


@pytest.mark.parametrize("stock", PRUNABLE_FORMS)
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_block_is_exact_both_ways(stock, shortcut, training):
    torch.manual_seed(0)
    block = stock(6, 8, n=2, shortcut=shortcut).train(training)
    block.i, block.f, block.type, block.np = 3, -1, "block", 7
    x = torch.rand(2, 6, 5, 5)
    form = PRUNABLE_FORMS[stock].from_block(deepcopy(block))
    back = form.to_block()
    assert type(back) is stock and back.c == block.c
    assert (back.i, back.f, back.type, back.np, back.training) == (3, -1, "block", 7, training)
    for (name, before), (other, after) in zip(block.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other and torch.equal(before, after)
    # equal weights, but a convolution with fewer outputs may sum in another order
    torch.testing.assert_close(form(x), block(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in YOLOV8 if n[6] in "nsm"])
def test_model_is_exact_both_ways(name):
    model, image = build_model(name), torch.rand(1, 3, 64, 64)
    expected = raw_outputs(model, image)
    prunable = to_prunable(deepcopy(model))
    assert not any(type(m) in PRUNABLE_FORMS for m in prunable.modules())
    torch.testing.assert_close(raw_outputs(prunable, image), expected, rtol=1e-5, atol=1e-5)
    stock = to_stock(prunable)
    assert [type(m) for m in stock.modules()] == [type(m) for m in model.modules()]
    assert all(torch.equal(a, b) for a, b in zip(stock.state_dict().values(), model.state_dict().values(), strict=True))


def test_fused_block_is_refused(yolov8n):
    with pytest.raises(ValueError, match="fused for inference"):
        to_prunable(deepcopy(yolov8n).fuse(verbose=False))
