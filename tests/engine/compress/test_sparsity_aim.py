# SPDX-License-Identifier: AGPL-3.0-or-later
"""The small units of a network are enough when the network without them meets the target."""

from types import SimpleNamespace

import pytest
import torch

from ultralytics.engine.compress.sparsifier import build_regulariser
from ultralytics.engine.compress.sparsity_aim import find_aim
from ultralytics.engine.pruning.surgery.trial import sound_graph
from ultralytics.nn.extra_modules.prunable import prunable_copy


def arguments(**keys):
    bounds = {"speed_up": 2.0, "global_pruning": True, "round_to": 1, "max_sparsity": 1.0}
    return SimpleNamespace(**{**bounds, "prune_method": "growing_reg", "budget": "flops", "imgsz": 64, **keys})


@pytest.mark.parametrize("budget", ["flops", "params"])
def test_small_units_are_enough_if_they_are_those_that_the_target_removes(yolov8n, budget):
    graph = sound_graph(prunable_copy(yolov8n))
    regulariser = build_regulariser(yolov8n, graph, arguments(budget=budget))
    aims = {s: find_aim(yolov8n, graph, regulariser.units, arguments(budget=budget, speed_up=s)) for s in (2, 2.05)}
    doomed = regulariser.doomed
    assert aims[2].is_met(doomed) and not aims[2.05].is_met(doomed)
    fewer = doomed.clone()
    fewer[doomed.nonzero()[::20]] = False
    assert not aims[2].is_met(fewer) and not aims[2].is_met(torch.zeros_like(doomed))
    assert aims[2.05].is_met(torch.ones_like(doomed))


def test_a_budget_in_time_has_none(yolov8n):
    graph = sound_graph(prunable_copy(yolov8n))
    units = build_regulariser(yolov8n, graph, arguments()).units
    assert find_aim(yolov8n, graph, units, arguments(budget="onnx")) is None
