# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a layer alone costs, and limits to pruning by it."""

import csv
from copy import deepcopy

import cv2
import pytest
import torch
from conftest import Interrupted, also_slow
from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.sensitivity_map import SENSITIVITY_FILE, read_rows
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking import sensitivity
from ultralytics.engine.pruning.ranking.criteria import lamp
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.sensitivity import RATIOS, limits_from, measure_sensitivity
from ultralytics.engine.pruning.surgery.oracle import raw_outputs
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.nn.extra_modules.prunable import prunable_copy

NAME = "model.5.conv"


@pytest.mark.parametrize("ratios", also_slow([(0.5,)], [(RATIOS,)]))
def test_each_layer_is_pruned_alone(yolov8n, monkeypatch, ratios):
    monkeypatch.setattr(sensitivity, "RATIOS", ratios)
    models = []

    def accuracy(model):
        models.append(model)
        return 1 - len(models) / 1000

    rows = measure_sensitivity(yolov8n, accuracy, METHODS["lamp"])
    dense, *others = rows
    assert len(others) == len({row["layers"] for row in others}) * len(ratios) == len(models) - 1
    assert any("model.4.cv0.conv" in row["layers"].split() for row in others)
    assert (dense["ratio"], dense["flops_saved"], dense["drop"]) == (0, pytest.approx(0, abs=1e-9), 0)
    blocks = [int(row["layers"].split(".")[1]) for row in others]
    assert blocks == sorted(blocks)
    image = torch.rand(1, 3, 64, 64)
    expected = raw_outputs(yolov8n, image)
    torch.testing.assert_close(raw_outputs(models[0], image), expected)
    i, row = next((i, r) for i, r in enumerate(others) if r["layers"] == NAME and r["ratio"] == 0.5)
    pruned = models[i + 1]
    assert (row["width"], row["kept"]) == (128, 64)
    assert row["flops_saved"] == pytest.approx(1 - count_flops(pruned) / count_flops(yolov8n), rel=1e-3)
    assert row["drop"] == pytest.approx(rows[0]["accuracy"] - row["accuracy"])
    weights = yolov8n.model[5].conv.weight
    assert torch.equal(pruned.model[4].cv2.conv.weight, yolov8n.model[4].cv2.conv.weight)
    group = next(g for g in Graph(prunable_copy(yolov8n)).groups if g.name == NAME)
    strongest = lamp(group).topk(64).indices.sort().values
    assert torch.equal(pruned.model[5].conv.weight, weights[strongest])


class Spectrum(nn.Module):
    """Uses an operation through which channels cannot be followed."""

    def forward(self, x):
        return torch.fft.fft2(x).real


def test_layers_that_must_stay_whole_have_no_row(yolov8n, monkeypatch):
    monkeypatch.setattr(sensitivity, "RATIOS", (0.5,))
    model = deepcopy(yolov8n)
    model.model[4].m[1].cv2.act = Spectrum()  # its half of the block stays whole, and so must the other

    def accuracy(pruned):
        return float(pruned(torch.rand(1, 3, 64, 64))[0].isfinite().all())

    rows = measure_sensitivity(model, accuracy, METHODS["lamp"])
    layers = {name for row in rows for name in row["layers"].split()}
    assert "model.5.conv" in layers and "model.4.cv0.conv" not in layers


def test_limits():
    drops = {"a b": (0.0, 0.01, 0.05), "c": (0.1, 0.0, 0.0), "d": (0.0, 0.0, 0.02)}
    rows = [{"layers": "", "ratio": 0.0, "drop": 0.0}]
    rows += [{"layers": k, "ratio": r, "drop": d} for k, line in drops.items() for r, d in zip(RATIOS, line)]
    assert limits_from(rows, 0.02) == {"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.75}
    assert limits_from([{"layers": "a", "ratio": 0.25, "drop": float("nan")}], 0.02) == {"a": 0.0}


def test_limits_hold_while_pruning(yolov8n):
    free, _ = prune_model(deepcopy(yolov8n), Budget(2.0, round_to=1), prune_method="lamp")
    assert free.model[5].conv.out_channels < 96
    pruned, record = prune_model(deepcopy(yolov8n), Budget(2.0, round_to=1, limits={NAME: 0.25}), prune_method="lamp")
    assert pruned.model[5].conv.out_channels >= 96
    assert record.reached == pytest.approx(2.0, rel=0.03)


def test_map_of_a_run_resumes(settings, shallow_pt, log):
    settings = {
        **settings,
        "model": shallow_pt,
        "name": "m-prune",
        "prune_method": "lamp",
        "sensitivity": True,
        "sensitivity_drop": 0.5,
        "plots": True,
    }
    run = DetectionCompressor(overrides=settings)
    calls = []

    def interrupt(validator):
        calls.append(validator)
        if len(calls) == 5:
            raise Interrupted

    run.add_callback("on_val_start", interrupt)
    with pytest.raises(Interrupted):
        run.compress()
    begun = read_rows(run.save_dir / SENSITIVITY_FILE)
    assert len(begun) == 4
    resumed = DetectionCompressor(overrides={**settings, "resume": True})
    log.clear()
    resumed.compress()
    rows = read_rows(run.save_dir / SENSITIVITY_FILE)
    lines = [message for message in log.messages if message.startswith("Sensitivity of ")]
    assert len(lines) == len({row["layers"] for row in rows if row["layers"]})  # one a layer
    assert all(f"{row['drop']:.4f} at {row['ratio']:.0%}" in " ".join(lines) for row in rows[1:])
    assert sum("mAP50-95)" in message for message in log.messages) <= 2  # headings of the report's validations alone
    assert rows[:4] == begun and resumed.save_dir == run.save_dir
    assert cv2.imread(str(run.save_dir / "sensitivity.png")).std() > 5
    with open(run.save_dir / SENSITIVITY_FILE) as f:
        assert next(csv.reader(f)) == ["layers", "ratio", "width", "kept", "flops_saved", "accuracy", "drop"]
    assert load_checkpoint(resumed.pruned)[0].pruning["reached"] == pytest.approx(2.0, rel=0.03)
