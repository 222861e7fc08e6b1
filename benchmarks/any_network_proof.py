# SPDX-License-Identifier: AGPL-3.0-or-later
"""What any_network.py finds out about one network."""

from __future__ import annotations

import time
import traceback
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from any_network_cases import build
from torch import nn

from ultralytics.engine.pruning.budget.floor import find_floor
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.selection import couple_groups
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.whole import kept_whole
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import largest_difference, masked, relative_difference
from ultralytics.engine.pruning.surgery.proof import WrongCutError
from ultralytics.engine.pruning.surgery.trial import sound_graph
from ultralytics.engine.pruning.surgery.wrong import WRONG
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.nn.modules.head import RTDETRDecoder

SPEED_UP = 2.0
TOLERANCE = 1e-4  # of the largest value, in FP64
LITTLE = 0.01  # share of the FLOPs up to which a network is pruned through
OFF = 0.1  # share by which a target is missed or exceeded
LEAST = 1.02  # a speed-up below which there is nothing to prune
OWN = ("ultralytics/engine/pruning/", "ultralytics/nn/extra_modules/")
MIB = 1 << 20


def examine(kind: str, name: str) -> dict[str, Any]:
    """Return the row of a network."""
    try:
        dense = build(kind, name)
        image = test_image(dense)
        run(deepcopy(dense), image, False)
        run(deepcopy(dense), image, True)
    except Exception as error:  # noqa: BLE001 a network that stock Ultralytics cannot run is no case of ours
        return {"result": "refused" if is_refusal(error) else "stock fails", "why": sentence(error)}
    row: dict[str, Any] = {}
    try:
        row |= graph_of(dense)
        return row | prune(dense, image, row["whole"])
    except WrongCutError as error:
        return row | {"result": "caught", "why": sentence(error)}
    except Exception as error:  # noqa: BLE001 every kind of it is a result
        return row | {"result": "refused" if is_refusal(error) else "CRASH", "why": sentence(error)}


def graph_of(dense: nn.Module) -> dict[str, Any]:
    """Return what the graph takes, and what stays whole whatever the budget's bounds are."""
    model = prunable_copy(dense)
    before = peak_memory(reset=True)
    begin = time.perf_counter()
    graph = sound_graph(model)
    row = {"graph_s": time.perf_counter() - begin, "graph_mb": (peak_memory() - before) / MIB}
    formula, budget = FlopsFormula(graph), Budget(SPEED_UP, round_to=1)
    scores = [torch.zeros(size, dtype=torch.float64) for size in graph.sizes]
    floor = find_floor(graph, couple_groups(graph, scores, budget, graph.sizes), formula, budget, formula.dense)
    entries = [e for e in kept_whole({**graph.left_dense, **floor.held}, floor.shares) if "predictions" not in e.reason]
    entries = [e for e in entries if e.share > 5e-4]
    why = "; ".join(f"{e.share:.1%} {e.place}: {e.reason}" for e in entries[:2])
    return row | {"reachable": floor.reachable, "whole": sum(e.share for e in entries if e.layers), "why": why}


def prune(dense: nn.Module, image: torch.Tensor, whole: float) -> dict[str, Any]:
    """Return what pruning reaches, and how far the result is from the masked dense model.

    Every layer loses the same share, so that no block is spared for its scores.

    Args:
        dense (nn.Module): Dense model.
        image (torch.Tensor): Images to compare on.
        whole (float): Share of the FLOPs in layers that stay whole.
    """
    budget = Budget(SPEED_UP, global_pruning=False)
    try:
        pruned, record = prune_model(dense, budget, prune_method="lamp")
    except OutOfReachError as error:
        budget = replace(budget, speed_up=1 + 0.9 * (error.reachable - 1))
        if budget.speed_up < LEAST:
            return {"result": "whole", "reached": 1.0}
        pruned, record = prune_model(dense, budget, prune_method="lamp")
    row: dict[str, Any] = {
        "reached": record.reached,
        "oracle": largest_difference(deepcopy(dense).double(), deepcopy(pruned).double(), record, image),
    }
    reference, trained = masked(dense, record), deepcopy(pruned)
    expected, actual = (run(model, image, True) for model in (reference, trained))
    row["training"] = max(relative_difference(actual[name], value) for name, value in expected.items())
    row["statistics"] = lost_statistics(reference, trained)
    wrong = not max(row["oracle"], row["training"], row["statistics"]) < TOLERANCE or actual.keys() != expected.keys()
    row["result"] = "WRONG" if wrong else "pruned" if whole <= LITTLE else "in part"
    if abs(record.reached / budget.speed_up - 1) > OFF and budget.speed_up == SPEED_UP:
        row["result"] = "MISSED"
    if WRONG in record.left_dense.values():  # found by the check of the cut, and not by the graph
        row["result"] = "caught"
    return row


def test_image(model: nn.Module) -> torch.Tensor:
    """Return two images of another size than the graph was traced with, if the model takes any."""
    side = example_image(model).shape[-1]
    size = (side, side) if isinstance(model.model[-1], RTDETRDecoder) else (side + 64, side + 128)
    channels = example_image(model).shape[1]
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(model: nn.Module, image: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
    """Return all outputs of a model, turned to FP64 in place; in training, of the statistics of the batch."""
    model.double().train(training)
    for m in model.modules():
        if "Drop" in type(m).__name__ or "Stochastic" in type(m).__name__:
            m.eval()
    with torch.no_grad():
        output = model(image)
    return flatten(output[1] if isinstance(output, tuple) else output)


def lost_statistics(reference: nn.Module, trained: nn.Module) -> float:
    """Return how far the statistics of a pruned network's channels are from the nearest ones of the dense network.

    After a forward pass in training, in FP64: a channel whose statistics the dense network has nowhere in the same
    layer has another input.
    """
    largest = 0.0
    dense = dict(reference.named_modules())
    for name, m in trained.named_modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
            have, wanted = (torch.stack([n.running_mean, n.running_var], 1) for n in (dense[name], m))
            distance = torch.cdist(wanted, have, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max()
            largest = max(largest, float(distance / have.abs().max()))
    return largest


def is_refusal(error: Exception) -> bool:
    """Return True for an error that the package raises itself, rather than one that happens to it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(last.filename).as_posix()
    return any(room in file for room in OWN) and (last.line or "").startswith("raise")


def sentence(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def peak_memory(reset: bool = False) -> int:
    """Return the bytes of memory that the process has had at most since the last reset; Linux alone tells."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10
