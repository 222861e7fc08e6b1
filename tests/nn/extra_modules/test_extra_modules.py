# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms compute what their stock blocks compute, both ways."""

from copy import deepcopy

import pytest
import torch
from conftest import FAMILIES, build_model
from torch import nn

from ultralytics import __version__
from ultralytics.cfg.compress.compat.modules import AAttn
from ultralytics.engine.pruning.surgery.cut import slice_batch_norm, slice_conv, slice_linear
from ultralytics.engine.pruning.surgery.oracle import raw_outputs
from ultralytics.nn.extra_modules.prunable import PRUNABLE_FORMS, to_prunable, to_stock
from ultralytics.nn.modules import block as block_module
from ultralytics.nn.modules.block import (
    C2,
    C2PSA,
    ELAN1,
    PSA,
    ADown,
    Attention,
    C2f,
    C2fAttn,
    C2fCIB,
    C2fPSA,
    C3k2,
    CBLinear,
    ImagePoolingAttn,
    MaxSigmoidAttnBlock,
    RepNCSPELAN4,
)
from ultralytics.nn.modules.transformer import MSDeformAttn, TransformerBlock

BLOCKS = {  # class: arguments of a small one that takes 16 channels
    C2: {"c1": 16, "c2": 8, "n": 2},
    C2f: {"c1": 16, "c2": 8, "n": 2, "shortcut": True},
    C3k2: {"c1": 16, "c2": 8, "n": 2, "c3k": True},
    C2fCIB: {"c1": 16, "c2": 16, "n": 1, "shortcut": True, "lk": True},
    C2fPSA: {"c1": 256, "c2": 256, "n": 1},
    C2PSA: {"c1": 256, "c2": 256, "n": 2},
    PSA: {"c1": 256, "c2": 256},
    RepNCSPELAN4: {"c1": 16, "c2": 8, "c3": 16, "c4": 8, "n": 1},
    ELAN1: {"c1": 16, "c2": 8, "c3": 16, "c4": 8},
    Attention: {"dim": 16, "num_heads": 2},
    AAttn: {"dim": 16, "num_heads": 2, "area": 4},
    ADown: {"c1": 16, "c2": 8},
    CBLinear: {"c1": 16, "c2s": [8, 4, 12]},
    MaxSigmoidAttnBlock: {"c1": 16, "c2": 8, "nh": 2, "ec": 8, "gc": 6, "scale": True},
    TransformerBlock: {"c1": 16, "c2": 8, "num_heads": 2, "num_layers": 2},
    MSDeformAttn: {"d_model": 16, "n_levels": 2, "n_heads": 2, "n_points": 3},
    ImagePoolingAttn: {"ec": 16, "ch": (8, 12), "ct": 6, "nh": 2, "k": 2},
    C2fAttn: {"c1": 16, "c2": 16, "n": 2, "ec": 8, "nh": 4, "gc": 6},
}


HAS_AATTN = pytest.mark.skipif(not hasattr(block_module, "AAttn"), reason=f"Ultralytics {__version__} has no AAttn")


def test_every_form_is_tested():
    assert BLOCKS.keys() == PRUNABLE_FORMS.keys()


@pytest.mark.parametrize("stock", [pytest.param(b, marks=HAS_AATTN) if b is AAttn else b for b in BLOCKS])
@pytest.mark.parametrize("training", [True, False])
def test_block_is_exact_both_ways(stock, training):
    torch.manual_seed(0)
    block = stock(**BLOCKS[stock]).train(training)
    for m in block.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.uniform_(-0.5, 0.5)
    block.i, block.f, block.type, block.np = 3, -1, "block", 7
    x = inputs(stock)
    form = PRUNABLE_FORMS[stock].from_block(deepcopy(block))
    back = deepcopy(form).to_block()
    assert type(back) is stock
    width = {"all_head_dim": 16} if stock is AAttn else {}  # which older releases do not note, nor read
    assert plain_attributes(back) == {**plain_attributes(block), **width}
    assert (back.i, back.f, back.type, back.np, back.training) == (3, -1, "block", 7, training)
    for (name, before), (other, after) in zip(block.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other and torch.equal(before, after)
    # equal weights, but a convolution with fewer outputs may sum in another order
    torch.testing.assert_close(form(*x), block(*x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back(*x), deepcopy(block)(*x), rtol=1e-5, atol=1e-5)


def inputs(stock):
    """Return what a block of `BLOCKS` takes."""
    if stock is MSDeformAttn:
        return torch.rand(2, 5, 16), torch.rand(2, 5, 1, 4), torch.rand(2, 20, 16), [(4, 4), (2, 2)]
    if stock is ImagePoolingAttn:
        return [torch.rand(2, 8, 8, 8), torch.rand(2, 12, 4, 4)], torch.rand(2, 5, 6)
    image = torch.rand(2, BLOCKS[stock].get("c1") or BLOCKS[stock]["dim"], 4, 4)
    return (image, torch.rand(2, 5, BLOCKS[stock]["gc"])) if "gc" in BLOCKS[stock] else (image,)


def plain_attributes(module):
    """Return the attributes of a module that are numbers or lists, which its forward may use."""
    return {k: v for k, v in vars(module).items() if isinstance(v, (int, float, list, tuple))}


def test_inner_block_leaves_nothing_of_the_dense_one_behind():
    """A block inside another one has no marks, and every module has a method `type`, which knows its module."""
    block = PRUNABLE_FORMS[Attention].from_block(Attention(16, num_heads=2)).to_block()
    assert "type" not in vars(block)


@pytest.mark.skipif(
    "all_head_dim" not in AAttn.forward.__code__.co_names,
    reason=f"Ultralytics {__version__} has no AAttn that may be narrower than its input",
)
def test_smaller_heads_keep_the_scale_of_the_dense_block():
    """AAttn scales by its present head size; after a cut the queries make up for the difference."""
    torch.manual_seed(0)
    form = PRUNABLE_FORMS[AAttn].from_block(AAttn(16, num_heads=2, area=1).eval())
    keep = torch.tensor([0, 1, 2, 8, 9, 10])  # 3 of 8 channels in each of the 2 heads
    every = torch.arange(16)
    for conv in (form.q, form.k, form.v):
        slice_conv(conv.conv, keep, every)
        slice_batch_norm(conv.bn, keep)
    slice_conv(form.pe.conv, keep, keep)
    slice_batch_norm(form.pe.bn, keep)
    slice_conv(form.proj.conv, every, keep)
    x = torch.rand(2, 16, 4, 4)
    expected = form(x)
    block = form.to_block()
    assert (block.head_dim, block.all_head_dim) == (3, 6)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-6)


def test_smaller_heads_of_world_keep_the_scale_of_the_dense_block():
    form = PRUNABLE_FORMS[MaxSigmoidAttnBlock].from_block(MaxSigmoidAttnBlock(8, 8, nh=2, ec=8, gc=6).eval())
    keep = torch.tensor([0, 2, 3, 4, 5, 7])  # 3 of 4 channels in each of the 2 heads
    slice_conv(form.proj_conv.conv, keep, keep)
    slice_batch_norm(form.proj_conv.bn, keep)
    slice_linear(form.gl, keep, torch.arange(6))
    x, guide = torch.rand(2, 6, 4, 4), torch.rand(2, 5, 6)
    expected = form(x, guide)
    block = form.to_block()
    assert block.hc == 3
    torch.testing.assert_close(block(x, guide), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_model_is_exact_both_ways(name):
    model, image = build_model(name), torch.rand(1, 3, 64, 64, dtype=torch.float64)
    expected = raw_outputs(deepcopy(model).double(), image)
    prunable = to_prunable(deepcopy(model))
    assert not any(type(m) in PRUNABLE_FORMS for m in prunable.modules())
    torch.testing.assert_close(raw_outputs(deepcopy(prunable).double(), image), expected, rtol=1e-5, atol=1e-5)
    stock = to_stock(prunable)
    assert [type(m) for m in stock.modules()] == [type(m) for m in model.modules()]
    assert all(torch.equal(a, b) for a, b in zip(stock.state_dict().values(), model.state_dict().values(), strict=True))


def test_fused_block_is_refused(yolov8n):
    with pytest.raises(ValueError, match="fused for inference"):
        to_prunable(deepcopy(yolov8n).fuse(verbose=False))
