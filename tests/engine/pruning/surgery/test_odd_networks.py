# SPDX-License-Identifier: AGPL-3.0-or-later
"""Networks that nobody publishes, but that Ultralytics builds and trains; random ones have found them."""

import pytest
import torch
from torch import nn

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, largest_difference
from ultralytics.nn.modules.block import Attention
from ultralytics.nn.tasks import DetectionModel

STEM = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, True]]]
GROUPED = [[-1, 1, "DWConv", [48, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64]]]
UNREAD_LAYER = [[-1, 1, "Conv", [48, 3, 2]], [-2, 1, "C3", [64]], [-2, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64]]]
UNREAD_BRANCH = [
    [-1, 1, "CBLinear", [[32, 64]]],
    [-2, 1, "Conv", [64, 3, 2]],
    [[-2, -1], 1, "CBFuse", [[1]]],
    [-1, 1, "C2f", [64]],
]
TWICE = [
    [-1, 1, "Conv", [48, 3, 2]],
    [[-1, -1], 1, "Concat", [1]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "C2f", [64]],
]
PLAIN = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64]]]
JOINED = [[-1, 1, "Conv", [32, 3, 2]], [-2, 1, "Conv", [32, 3, 2]], [[-1, -2], 1, "Concat", [1]], [-1, 1, "C2f", [64]]]
TRANSFORMER = [[-1, 1, "Conv", [48, 3, 2]], [-1, 2, "C3TR", [64]], [-1, 1, "C2f", [64]]]
HALVED = [[-1, 1, "GhostConv", [48, 3, 2]], [-1, 1, "ADown", [64]], [-1, 1, "C2f", [64]]]


def build(layers):
    torch.manual_seed(0)
    head = [[[len(STEM) + len(layers) - 1], 1, "Detect", ["nc"]]]
    model = DetectionModel(
        {"nc": 3, "backbone": [*map(list, STEM)], "head": [*map(list, layers), *head]}, verbose=False
    )
    return enliven(model, model.predict)


@pytest.mark.parametrize(
    ("layers", "dense"),
    [
        (GROUPED, {}),
        (UNREAD_LAYER, {}),
        (UNREAD_BRANCH, {}),
        (TWICE, {}),
        (TRANSFORMER, {}),
        (HALVED, {"model.3.cv1.conv": "halved together", "model.3.cv2.conv": "halved together"}),
    ],
    ids=[
        "grouped convolution",
        "unread layer",
        "unread branch",
        "concatenated twice",
        "transformer",
        "halved after concatenation",
    ],
)
def test_the_rest_is_pruned_exactly(layers, dense):
    """What cannot be followed stays whole and says why."""
    model = build(layers)
    pruned, record = prune_model(model, Budget(1.3, round_to=1, global_pruning=False), prune_method="lamp")
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    assert largest_difference(model, pruned, record, image) < 1e-4
    others = {k: why for k, why in record.left_dense.items() if why != "its outputs are the predictions"}
    assert others.keys() == dense.keys() and all(reason in others[k] for k, reason in dense.items())


@pytest.mark.parametrize(("layers", "place"), [(PLAIN, 3), (JOINED, 5)], ids=["one tensor", "two tensors"])
def test_attention_without_a_shortcut_is_as_wide_as_its_input(layers, place):
    """Nothing else ties the values to the channels that the stock block takes the width of."""
    model = build(layers)
    before = model.model[place]
    block = nn.Sequential(before, Attention(64, num_heads=2)).requires_grad_(True)
    block.i, block.f, block.type = before.i, before.f, before.type
    model.model[place] = block
    enliven(model, model.predict)
    pruned, record = prune_model(model, Budget(1.8, round_to=1), prune_method="lamp")
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    assert largest_difference(model, pruned, record, image) < 1e-4
    attention = pruned.model[place][1]
    assert attention.qkv.conv.in_channels == attention.num_heads * attention.head_dim
