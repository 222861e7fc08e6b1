# SPDX-License-Identifier: AGPL-3.0-or-later
"""AAttn of the original YOLOv12 repository becomes stock AAttn."""

import pytest
import torch
from torch import nn

from ultralytics.cfg.compress.compat.modules import AAttn
from ultralytics.nn.conversion.stock_form import is_foreign, stock_form
from ultralytics.nn.modules import block as blocks
from ultralytics.nn.modules.conv import Conv

pytestmark = pytest.mark.skipif(not hasattr(blocks, "AAttn"), reason="this Ultralytics has no YOLO12")


def split_attention(dim, heads, area):
    """Return attention with the layers of the original repository, in the class that its checkpoints name."""
    block = nn.Module.__new__(AAttn)
    nn.Module.__init__(block)
    block.num_heads, block.area, block.head_dim = heads, area, dim // heads
    block.qk, block.v = Conv(dim, 2 * dim, 1, act=False), Conv(dim, dim, 1, act=False)
    block.proj, block.pe = Conv(dim, dim, 1, act=False), Conv(dim, dim, 5, 1, 2, g=dim, act=False)
    for m in block.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.uniform_(-0.5, 0.5)
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
    return block.eval()


def attend(block, x):
    """Compute what the original block does, one area and one head at a time."""
    b, c, h, w = x.shape
    query, key = block.qk(x).flatten(2).chunk(2, 1)
    value = block.v(x)
    out = torch.zeros(b, c, h * w)
    pixels = torch.arange(h * w).view(block.area, -1)
    for image in range(b):
        for area in pixels:
            for head in torch.arange(c).view(block.num_heads, -1):
                q, k, v = (t[image][head][:, area] for t in (query, key, value.flatten(2)))
                scores = (q.T @ k / len(head) ** 0.5).softmax(1)
                out[image][head[:, None], area] = v @ scores.T
    return block.proj(out.view(b, c, h, w) + block.pe(value))


@pytest.mark.parametrize("area", [1, 4])
@pytest.mark.parametrize("heads", [1, 3])
def test_split_attention_is_joined_exactly(heads, area):
    model = nn.Sequential(split_attention(24, heads, area))
    x = torch.rand(2, 24, 4, 4)
    expected = attend(model[0], x)
    assert is_foreign(model)
    with pytest.raises(AttributeError, match="qkv"):  # in stock Ultralytics
        model(x)
    converted, note = stock_form(model)
    assert "YOLOv12" in note and not is_foreign(converted) and is_foreign(model)
    torch.testing.assert_close(converted(x), expected, rtol=1e-5, atol=1e-5)
    state = AAttn(24, heads, area).state_dict()
    assert [*converted[0].state_dict()] == [*state]
    newer = {"all_head_dim"}  # which older releases take from the input
    assert vars(converted[0]).keys() - newer == vars(AAttn(24, heads, area)).keys() - newer


def test_stock_attention_is_left_alone():
    model = nn.Sequential(AAttn(16, 2))
    assert stock_form(model) == (model, "")
