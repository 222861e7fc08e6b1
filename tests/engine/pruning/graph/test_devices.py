# SPDX-License-Identifier: AGPL-3.0-or-later
"""Operations that other devices have are followed as those of the CPU are, on tensors without values."""

import pytest
import torch
from torch import nn

from ultralytics.engine.pruning.graph.heads import Ends
from ultralytics.engine.pruning.graph.operations import follow
from ultralytics.engine.pruning.graph.trace import Trace

SHAPE = (1, 2, 9, 8)


@pytest.fixture
def trace():
    return Trace(nn.Identity(), Ends([]))


def labelled(trace, layer):
    """Return a tensor of some channels along its last dimension, and their labels."""
    tensor = torch.empty(SHAPE, device="meta")
    labels = trace.made(layer, SHAPE[-1])
    trace.set_channels(tensor, labels, -1)
    return tensor, labels


@pytest.mark.parametrize("kernel", ["efficient", "flash", "cudnn"])
def test_attention(trace, kernel):
    name = f"_scaled_dot_product_{kernel}_attention"
    if not hasattr(torch.ops.aten, name):
        pytest.skip(f"this PyTorch has no {name}")
    func = getattr(torch.ops.aten, name).default
    (query, q), (key, k), (value, v) = (labelled(trace, nn.Linear(1, 1)) for _ in range(3))
    args = (query, key, value, *{"efficient": (None, False), "flash": (), "cudnn": (None, False)}[kernel])
    output = func(*args)
    follow(trace, func, args, {}, output)
    assert torch.equal(trace.of(output[0]), v.expand(SHAPE))
    assert torch.equal(trace.labels.roots(q), trace.labels.roots(k))
    assert not torch.isin(trace.labels.roots(torch.cat((q, v))), torch.tensor([*trace.labels.reasons()])).any()
