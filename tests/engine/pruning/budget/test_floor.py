# SPDX-License-Identifier: AGPL-3.0-or-later
"""What stays whole is named with its reason and its share of the cost, and so is what keeps a target out of reach."""

import re

import pytest

from ultralytics.engine.pruning.budget.floor import find_floor
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.layer_flops import layer_flops
from ultralytics.engine.pruning.budget.selection import couple_groups
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.whole import KeptWhole, kept_whole, stays
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import score_groups
from ultralytics.nn.extra_modules.prunable import prunable_copy

WIDE = "model.6.cv2.conv"  # a large layer of yolov8n
HEAD = re.compile(r"model\.22\.cv[23].+\.conv")  # its inner layers, whichever release built them


@pytest.fixture(scope="module")
def head(yolov8n):
    """Return limits that let the inner layers of the head lose nothing."""
    return {name: 0.0 for name, _ in yolov8n.named_modules() if HEAD.fullmatch(name)}


def floor_of(model, budget):
    graph = Graph(prunable_copy(model))
    formula = FlopsFormula(graph)
    scores = score_groups(graph.model, graph.groups, METHODS["lamp"])
    coupled = couple_groups(graph, scores, budget, graph.sizes)
    return graph, find_floor(graph, coupled, formula, budget, formula.dense)


def test_with_nothing_to_remove_the_shares_are_those_of_all_layers(yolov8n):
    _, floor = floor_of(yolov8n, Budget(2, round_to=10**9))
    assert floor.reachable == pytest.approx(1) and sum(floor.shares.values()) == pytest.approx(1, abs=1e-3)  # DFL
    dense = layer_flops(yolov8n)
    layer, norm = dense[WIDE], dense[WIDE.replace(".conv", ".bn")]
    assert floor.shares[WIDE] == pytest.approx((layer + norm) / sum(dense.values()), rel=1e-6)


def test_the_speed_up_within_reach_is_reached(yolov8n):
    _, floor = floor_of(yolov8n, Budget(2))
    pruned, record = prune_model(yolov8n, Budget(floor.reachable - 1e-6), prune_method="lamp")
    assert record.reached == pytest.approx(floor.reachable, rel=1e-4)
    left = layer_flops(pruned)["model.22.cv2.0.2"] / (count_flops(yolov8n) * 1e9)
    assert record.shares["model.22.cv2.0.2"] == pytest.approx(left, rel=1e-6)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(1.1, round_to=16), "round_to=16 allows no smaller width"),
        (Budget(1.1, max_sparsity=0.2), "max_sparsity and round_to=8 allow no smaller width"),
        (Budget(1.1, limits={WIDE: 0.0}), "sensitivity_drop and round_to=8 allow no smaller width"),
    ],
)
def test_a_bound_that_keeps_a_layer_whole_is_named(yolov8n, budget, reason):
    _, record = prune_model(yolov8n, budget, prune_method="lamp")
    held = [name for name, why in record.held.items() if why == reason]
    layers = dict(yolov8n.named_modules())
    stock = [name for name in held if name in layers]  # parts of a block's prunable form have other names
    assert stock and all(len(record.channels[name]["out"]) == layers[name].out_channels for name in stock)
    assert set(held) <= record.shares.keys() and record.held.keys().isdisjoint(record.left_dense)


def test_a_partner_that_stays_whole_is_named(yolov8n):
    """The halves of a C2f keep equally many channels."""
    graph, floor = floor_of(yolov8n, Budget(2, limits={"model.6.cv0.conv": 0.0}))
    assert {"model.6.cv0.conv", "model.6.cv1.conv"} <= set(graph.names.values())
    assert floor.held["model.6.cv1.conv"] == "it must be as wide as model.6.cv0.conv, which stays whole"


def test_a_target_out_of_reach_names_what_holds_it(yolov8n, head):
    with pytest.raises(OutOfReachError) as error:
        prune_model(yolov8n, Budget(12, limits=head), prune_method="lamp")
    within = error.value.reachable
    assert f"the speed-up is {within:.2f}. " in str(error.value)
    why = r"in model\.22 \(sensitivity_drop and round_to=8 allow no smaller width\)(, [^;]+)?; without them"
    assert re.search(why, str(error.value))
    _, record = prune_model(yolov8n, Budget(within - 1e-6, limits=head), prune_method="lamp")
    assert record.reached == pytest.approx(within, rel=1e-4)
    _, floor = floor_of(yolov8n, Budget(2, limits=head))
    assert floor.without > 12 > within  # the rest of the network shrinks as it does without limits


def test_the_log_names_the_largest(yolov8n, head, log):
    prune_model(yolov8n, Budget(1.1), prune_method="lamp")
    assert "stay whole" not in log.text
    prune_model(yolov8n, Budget(1.1, limits=head), prune_method="lamp")
    (line,) = [message for message in log.messages if "of the FLOPs stay whole" in message]
    assert "in model.22: sensitivity_drop" in line


def test_layers_are_put_together_by_block_and_reason():
    reasons = {"model.4.b.fc": "no", "model.4.b.norm.x": "no", "model.4.conv": "yes", "model.5.conv": "no"}
    shares = {"model.4.b.fc": 0.25, "model.4.b.norm.x": 0.25, "model.5.conv": 0.1, "outside": 0.2}
    entries = kept_whole(reasons, shares)
    assert entries == [
        KeptWhole("model.4.b", "no", ["model.4.b.fc", "model.4.b.norm.x"], 0.5),
        KeptWhole("other operations", "outside", [], 0.2),
        KeptWhole("model.5.conv", "no", ["model.5.conv"], 0.1),
        KeptWhole("model.4.conv", "yes", ["model.4.conv"], 0.0),
    ]
    assert stays(entries, "FLOPs") == "80% of the FLOPs stay whole, 50% in model.4.b: no"
