# SPDX-License-Identifier: AGPL-3.0-or-later
"""The dense model as a teacher: for how long, by its own training's curve, and trained on first if asked for."""

import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Interrupted, needs

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.convergence import RISING, curve_of, epochs_of, expected_gain, tell_of_epochs
from ultralytics.engine.compress.teacher import Teaching, teaching_of
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune

COLUMN = "metrics/mAP50-95(B)"


def saturating(epochs, scale, top=0.6):
    """Return a curve that comes up to `top` exponentially; after `scale` epochs 37% are missing."""
    return [top * (1 - math.exp(-epoch / scale)) for epoch in range(1, epochs + 1)]


def noisy(curve, deviation, seed=0):
    rng = random.Random(seed)
    return [value + rng.gauss(0, deviation) for value in curve]


def test_a_curve_that_ends_early_is_rising():
    gain = expected_gain(saturating(25, scale=20), epochs=25)
    assert gain > RISING and gain == pytest.approx(0.6 * (math.exp(-17 / 20) - math.exp(-25 / 20)), rel=0.1)
    assert expected_gain(saturating(25, scale=20), epochs=4) == pytest.approx(gain / 2)  # half of the last 8 epochs


def test_a_curve_that_has_flattened_is_not():
    assert 0 <= expected_gain(saturating(100, scale=15), epochs=100) < RISING
    assert expected_gain([0.5] * 40, epochs=100) == 0


def test_a_curve_that_was_stopped_by_patience_is_not():
    assert expected_gain([*saturating(40, scale=20), *[0.4] * 20], epochs=100) == 0


@pytest.mark.parametrize("epochs", [15, 40, 100])
def test_noise_alone_rarely_looks_like_a_rise(epochs):
    found = [expected_gain(noisy([0.4] * epochs, 0.02, seed), epochs) for seed in range(200)]
    assert sum(gain > RISING for gain in found) <= 4  # its best epoch would have to be among the last as well


def test_a_rise_is_found_under_noise():
    found = [expected_gain(noisy(saturating(40, scale=30), 0.01, seed), 40) for seed in range(200)]
    assert sum(gain > RISING for gain in found) >= 150


def test_a_short_noisy_training_whose_best_epoch_was_not_the_last_is_rising():
    """Shapes, a yolov8n after 20 epochs, of which 80 make half as much again."""
    curve = [0.006, 0.001, 0.047, 0.252, 0.273, 0.296, 0.35, 0.203, 0.35, 0.315]
    curve += [0.327, 0.299, 0.4, 0.41, 0.464, 0.499, 0.443, 0.47, 0.483, 0.472]
    assert expected_gain(curve, 20) > RISING


def test_a_short_curve_says_nothing():
    assert expected_gain([], 10) is None
    assert expected_gain([0.1, 0.2, 0.3, 0.4], 10) is None
    assert expected_gain([0.1, 0.2, 0.3, 0.4, 0.5], 3) == pytest.approx(0.3)


def test_the_curve_of_a_checkpoint():
    resumed = {"epoch": [1, 2, 3, 2, 3, 4], f"  {COLUMN}": [0.0, 0.1, 0.9, 0.2, 0.3, 0.4]}
    assert curve_of({"train_results": resumed}, "detect") == [0.2, 0.3, 0.4]
    diverged = {"epoch": [1, 2, 3], COLUMN: [0.1, math.nan, 0.3]}
    assert curve_of({"train_results": diverged}, "detect") == [0.1, 0.3]
    last_alone = {"epoch": [1, 2, 3], COLUMN: [0, 0, 0.3]}  # val=False
    assert curve_of({"train_results": last_alone}, "detect") == [0.3]
    for other in ({}, {"train_results": None}, {"train_results": {}}, {"train_results": {"epoch": 3, COLUMN: "a"}}):
        assert curve_of(other, "detect") == []
    assert curve_of({"train_results": diverged}, "segment") == []


def test_a_curve_ends_where_mosaic_was_closed():
    """Tree crowns, of which a student learns best throughout: the last ten epochs rise because mosaic is off."""
    flat, closed = [0.13, 0.14] * 15, [0.14 + 0.0025 * epoch for epoch in range(10)]
    results = {"epoch": list(range(1, 41)), COLUMN: flat + closed}
    args = {"mosaic": 1.0, "close_mosaic": 10, "epochs": 40}
    assert curve_of({"train_results": results, "train_args": args}, "detect") == flat
    assert expected_gain(flat, 40) == 0 and expected_gain(flat + closed, 40) > RISING
    for other in ({"mosaic": 0.0}, {"close_mosaic": 0}, {"close_mosaic": 50}, {"mosaic": None}):
        found = curve_of({"train_results": results, "train_args": {**args, **other}}, "detect")
        assert found == flat + closed
    stopped = {"epoch": [1, 2, 3], COLUMN: [0.1, 0.2, 0.3]}
    assert curve_of({"train_results": stopped, "train_args": args}, "detect") == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("checkpoint", "epochs"),
    [
        ({"train_results": {"epoch": [1, 2, 3, 3, 4]}, "train_args": {"epochs": 100}}, 4),
        ({"train_results": {"epoch": [1, math.nan]}}, 1),
        ({"train_results": {}, "train_args": {"epochs": 100}}, 100),
        ({"train_results": None, "train_args": {"epochs": "many"}}, 0),
        ({}, 0),
    ],
)
def test_the_epochs_of_a_checkpoint(checkpoint, epochs):
    assert epochs_of(checkpoint) == epochs


def test_a_fine_tuning_that_is_short_beside_the_dense_training_is_told(log):
    checkpoint = {"train_results": {"epoch": [*range(1, 81)]}}
    for epochs in (40, 80, 100):
        tell_of_epochs(checkpoint, epochs)
    tell_of_epochs({}, 1)
    assert not log.text
    tell_of_epochs(checkpoint, 39)
    assert "epochs=39, and the dense model was trained for 80" in log.text and "'epochs=40'" in log.text


def test_teaching_falls_to_nothing_half_way():
    assert [Teaching(True, "").share(epoch / 8) for epoch in range(8)] == [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]
    assert {Teaching(False, "").share(epoch / 8) for epoch in range(8)} == {1}


def with_curve(file, curve, to):
    """Copy a checkpoint and give it another curve, None for no curve at all."""
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["train_results"] = curve and {"epoch": list(range(1, len(curve) + 1)), COLUMN: curve}
    torch.save(checkpoint, to)
    return str(to)


class Watched(DetectionFinetune):
    """Notes the weight of the teacher in every epoch, and is interrupted in the one that is told."""

    interrupted_in = None

    def _model_train(self):
        super()._model_train()
        self.weights = [*getattr(self, "weights", ()), self.model.dis]
        if self.epoch == self.interrupted_in:
            raise Interrupted


@needs("distillation")
def test_a_rising_dense_model_teaches_less_and_less_also_after_a_resume(settings, tmp_path, log):
    dense = with_curve(settings["model"], saturating(20, scale=20), tmp_path / "dense.pt")
    pruned = DetectionCompressor(overrides={**settings, "model": dense, "name": "f-prune"}).compress()
    keys = {**settings, "model": pruned, "name": "f-finetune", "epochs": 4}
    stopped = Watched(overrides=keys)
    stopped.interrupted_in = 2
    with pytest.raises(Interrupted):
        stopped.train()
    assert stopped.weights == [6.0, 3.0, 0.0]
    assert "was still rising when its training ended" in log.text and "'dense_epochs=4'" in log.text
    assert "falls to nothing by epoch 2" in log.text
    resumed = Watched(overrides={**keys, "resume": True})
    resumed.interrupted_in = 3
    with pytest.raises(Interrupted):
        resumed.train()
    assert resumed.weights == [0.0, 0.0]


class Listened(DetectionFinetune):
    """Counts the batches for which the teacher is run, by epoch, and has it run in all of them if told."""

    always = False

    def _model_train(self):
        super()._model_train()
        if not hasattr(self, "heard"):
            self.heard = [0] * self.epochs
            self.model.teacher_model.register_forward_hook(self.hear)
        self.model.training = self.model.training or self.always

    def hear(self, *_):
        self.heard[self.epoch] += 1


@needs("distillation")
def test_a_teacher_that_has_fallen_silent_is_not_run_and_nothing_else_changes(settings, tmp_path):
    """It took a fifth of each batch's time, in half of the epochs, for a loss that was multiplied by zero."""
    dense = with_curve(settings["model"], saturating(20, scale=20), tmp_path / "dense.pt")
    pruned = DetectionCompressor(overrides={**settings, "model": dense, "name": "s-prune"}).compress()
    weights = {}
    for always in (False, True):
        run = Listened(overrides={**settings, "model": pruned, "name": f"s-{always}-finetune", "epochs": 4})
        run.always = always
        run.train()
        batches = len(run.train_loader)
        assert run.heard == [batches] * 2 + [batches * always] * 2
        weights[always] = load_checkpoint(run.last)[0].float().state_dict()
    assert weights[False].keys() == weights[True].keys()
    for name, value in weights[
        False
    ].items():  # checkpoints are FP16, and the norm of the gradients sums in another order
        torch.testing.assert_close(value, weights[True][name], atol=2e-4, rtol=2e-3)


@needs("distillation")
@pytest.mark.parametrize(
    ("curve", "why"),
    [(saturating(100, scale=10), "it had converged"), ([0.1, 0.2], "no curve"), (None, "no curve")],
)
def test_others_teach_throughout(settings, tmp_path, curve, why):
    dense = with_curve(settings["model"], curve, tmp_path / "dense.pt")
    run = DetectionCompressor(overrides={**settings, "model": dense, "name": "t-prune"})
    run._prune(Path(dense))
    teaching = teaching_of(dense, load_checkpoint(run.pruned)[0], "detect", 50)
    assert not teaching.falls and why in teaching.reason


@needs("distillation")
def test_a_teacher_that_was_chosen_teaches_throughout(settings, tmp_path):
    dense = with_curve(settings["model"], saturating(20, scale=20), tmp_path / "dense.pt")
    run = DetectionCompressor(overrides={**settings, "model": dense, "name": "c-prune"})
    run._prune(Path(dense))
    pruned = load_checkpoint(run.pruned)[0]
    assert teaching_of(dense, pruned, "detect", 50).falls
    (tmp_path / "moved").mkdir()
    assert teaching_of(shutil.copy(dense, tmp_path / "moved"), pruned, "detect", 50).falls
    chosen = teaching_of(shutil.copy(dense, tmp_path / "chosen.pt"), pruned, "detect", 50)
    assert not chosen.falls and "as it was chosen" in chosen.reason


def test_dense_model_is_trained_on_first(settings, tmp_path, log):
    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", lambda trainer: names.append(trainer.save_dir.name))
    names = []
    keys = {"dense_epochs": 2, "name": "d", "time": 1e-6}  # hours of the fine-tuning, which end with its first epoch
    report = model.compress(**{**settings, "epochs": 1}, **keys)
    assert names == ["d-dense", "d-dense", "d-finetune"]
    stages = YAML.load(tmp_path / "d-prune" / "stages.yaml")
    assert stages["choose"]["sha256"] == stages["dense"]["sha256"]  # no metric above 0, so that it lost nothing
    dense = tmp_path / "d-dense" / "weights" / "best.pt"
    assert report["rows"]["dense"]["weights"] == str(dense)
    assert load_checkpoint(model.ckpt_path)[0].pruning["source"]["path"] == str(dense)
    assert YAML.load(tmp_path / "d-dense" / "args.yaml")["epochs"] == 2
    assert log.text.count("validating the dense model") == 1

    resumed = YOLO(settings["model"]).compress(**{**settings, "epochs": 1}, dense_epochs=2, name="d", resume=True)
    assert resumed == report and len(names) == 3


def test_dense_model_that_lost_by_more_training_stays(settings, tmp_path, monkeypatch):
    from ultralytics.engine.compress import trainings

    found = {"dense": 0.5, "further trained": 0.4}
    monkeypatch.setattr(
        trainings, "validated", lambda name, *args: (None, {"mAP50": found[name], "mAP50-95": found[name]})
    )
    run = DetectionCompressor(overrides={**settings, "epochs": 1, "dense_epochs": 1, "name": "l-prune"})
    run.compress()
    report = json.loads((run.save_dir / "report.json").read_text())
    assert report["rows"]["dense"]["weights"] == settings["model"]
    assert report["rows"]["dense"]["mAP50-95"] == 0.5
    assert load_checkpoint(run.pruned)[0].pruning["source"]["path"] == settings["model"]
