# SPDX-License-Identifier: AGPL-3.0-or-later
"""Half-way through a fine-tuning its end is forecast, if the dense model's own curve says that it had converged."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import FAST

from ultralytics import YOLO
from ultralytics.engine.compress.forecast import LEAST, RISE, Forecast, forecast, forecast_of, halfway, is_forecastable
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune

FLAT, RISING = [0.5, 0.51, 0.49, 0.5, 0.51] * 4, [0.02 * i for i in range(20)]


def give_curve(file: Path, column: str, values: list[float]) -> None:
    """Give a checkpoint the curve of a training."""
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["train_results"] = {"epoch": [*range(1, len(values) + 1)], column: values}
    checkpoint["train_args"] = {**checkpoint["train_args"], "mosaic": 0.0}
    torch.save(checkpoint, file)


def test_the_first_half_says_what_the_second_may_gain():
    values = [0.1, 0.3, 0.5, 0.4, 0.45, 0.9, 0.9, 0.9, 0.9, 0.9]
    found = forecast(values, len(values), 0.6)
    assert found == Forecast(5, 0.5 + RISE[0] * 0.6, 0.5 + RISE[1] * 0.6)
    assert found == forecast(values[:5], len(values), 0.6)  # it does not look ahead


@pytest.mark.parametrize(("values", "epochs"), [([0.5] * 9, LEAST - 1), ([0.0] * 10, 10), ([0.5] * 4, 10)])
def test_there_is_none_without_a_first_half(values, epochs):
    assert forecast(values, epochs, 0.6) is None
    assert halfway(LEAST - 1) == 0


def test_a_poor_one_says_what_to_do():
    assert "ask for a lower target" in Forecast(5, 0.30, 0.40).text("mAP50-95", 0.5)
    assert Forecast(5, 0.30, 0.495).text("mAP50-95", 0.5).endswith("mAP50-95 0.300 to 0.495 (dense 0.500)")


@pytest.mark.parametrize(("curve", "told"), [(FLAT, True), (RISING, False), ([], False)])
def test_only_of_a_model_whose_curve_says_that_it_had_converged(best_pt, tmp_path, curve, told):
    file = tmp_path / "dense.pt"
    shutil.copy(best_pt, file)
    give_curve(file, "metrics/mAP50-95(B)", curve)
    assert is_forecastable(file, "detect", 20) is told
    assert not is_forecastable(Path("no-such-file.pt"), "detect", 20)


def test_that_of_a_run_goes_by_the_epochs_that_were_asked_for(best_pt, tmp_path):
    """Patience ended it after 12 of 20: the forecast was made after 10, not after 6."""
    file = tmp_path / "dense.pt"
    shutil.copy(best_pt, file)
    give_curve(file, "metrics/mAP50-95(B)", FLAT)
    curve = {"metric": "mAP50-95", "values": [0.1, 0.2, 0.3, 0.35, 0.4, 0.4, 0.45, 0.45, 0.5, 0.5, 0.5, 0.5]}
    found = forecast_of(curve, 20, {"weights": str(file), "mAP50-95": 0.6}, "detect", tmp_path)
    assert found == Forecast(10, 0.5 + RISE[0] * 0.6, 0.5 + RISE[1] * 0.6)
    assert forecast_of(None, 20, {"weights": str(file), "mAP50-95": 0.6}, "detect", tmp_path) is None


@pytest.fixture
def pictures(tmp_path) -> str:
    """Black and white pictures, of which any classifier recognises some."""
    for split, count in (("train", 4), ("val", 2)):
        for value, name in ((0, "black"), (255, "white")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), np.full((32, 32, 3), value, np.uint8))
    return str(tmp_path / "pictures")


def test_it_is_logged_half_way_and_stands_in_the_report(pictures, tmp_path, log):
    keys = {"data": pictures, "imgsz": 32, "batch": 4, "device": "cpu", "workers": 0, "plots": False}
    yolo = YOLO("yolov8n-cls.yaml")
    yolo.train(**keys, epochs=1, project=str(tmp_path), name="dense")
    dense = tmp_path / "dense" / "weights" / "best.pt"
    give_curve(dense, "metrics/accuracy_top1", FLAT)
    report = YOLO(dense).compress(**keys, speed_up=1.1, epochs=LEAST, project=str(tmp_path / "runs"), name="run")
    values, accuracy = report["curve"]["values"], report["rows"]["dense"]["top1"]
    expected = forecast(values, LEAST, accuracy)
    assert report["forecast"] == expected._asdict()
    assert log.text.count(expected.text("top1", accuracy)) == 1
    assert f"{expected.low:.3f} to {expected.high:.3f} was expected after epoch 5." in log.text
    file = tmp_path / "runs" / "run-finetune" / "report.json"
    assert json.loads(file.read_text())["forecast"] == report["forecast"]


def test_a_damaged_report_costs_the_forecast_alone(best_pt, tiny_data, tmp_path, log):
    settings = {**FAST, "data": tiny_data, "project": str(tmp_path), "prune_method": "lamp", "distill": False}
    pruned = DetectionCompressor(overrides={**settings, "model": best_pt, "name": "d-prune"}).compress()
    (tmp_path / "d-prune" / "report.json").write_text("{}")
    run = DetectionFinetune(overrides={**settings, "epochs": LEAST, "model": pruned, "name": "d-finetune"})
    run.add_callback("on_train_start", lambda trainer: setattr(trainer, "start_epoch", LEAST // 2))
    run.train()
    assert run.epoch == LEAST - 1 and "no forecast: " in log.text
