# SPDX-License-Identifier: AGPL-3.0-or-later
"""What keeps the accuracy around the cut: batch norms measured anew, and distillation while fine-tuning."""

import csv
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from conftest import FAST, Interrupted, build_model, needs, set_up
from torch import nn

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.training import BUILDS_PIPELINE
from ultralytics.engine.compress import stepping
from ultralytics.engine.compress.finetuner import find_teacher
from ultralytics.engine.compress.lesson import Unread
from ultralytics.engine.pruning.surgery.recalibration import recalibrate
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune


def test_recalibration_averages_over_the_batches(yolov8n):
    model = deepcopy(yolov8n)
    model.spare = nn.BatchNorm2d(3)  # stands for a branch of training alone
    model.spare.running_mean.fill_(7)
    weights = {k: v.clone() for k, v in model.named_parameters()}
    images = [torch.rand(2, 3, 64, 64) for _ in range(3)]
    recalibrate(model, images)

    first = model.model[0]
    maps = [first.conv(batch) for batch in images]
    torch.testing.assert_close(first.bn.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
    torch.testing.assert_close(first.bn.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    assert torch.equal(model.spare.running_mean, torch.full((3,), 7.0))
    assert all(torch.equal(v, weights[k]) for k, v in model.named_parameters())
    assert first.bn.momentum == yolov8n.model[0].bn.momentum
    assert not any(m.training for m in model.modules())


def test_recalibration_brings_shifted_outputs_back(yolov8n):
    image = torch.rand(4, 3, 64, 64)
    model = deepcopy(yolov8n)
    recalibrate(model, [image])
    expected = model.model[4](model.model[3](model.model[2](model.model[1](model.model[0](image)))))
    with torch.no_grad():
        model.model[3].bn.running_mean += 1.0
        model.model[2].cv1.bn.running_var *= 4.0
    recalibrate(model, [image])
    actual = model.model[4](model.model[3](model.model[2](model.model[1](model.model[0](image)))))
    torch.testing.assert_close(actual, expected)


def test_recalibration_leaves_out_batches_of_one_image(yolov8n, log):
    """At 32 px the deepest maps are of one pixel: a channel of one image has no variance there."""
    images = torch.rand(4, 3, 32, 32)
    plain, model = deepcopy(yolov8n), deepcopy(yolov8n)
    recalibrate(plain, [images])
    recalibrate(model, [images, images[:1]])
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in plain.state_dict().items())
    assert "no batch of two" not in log.text
    model = deepcopy(yolov8n)
    recalibrate(model, [images[:1]])
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in yolov8n.state_dict().items())
    assert "no batch of two or more images" in log.text


def test_recalibration_that_fails_leaves_the_model_as_it_was(yolov8n):
    def images():
        yield torch.rand(4, 3, 64, 64)
        raise RuntimeError("CUDA out of memory.")

    model = deepcopy(yolov8n)
    with pytest.raises(RuntimeError, match="out of memory"):
        recalibrate(model, images())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in yolov8n.state_dict().items())
    assert model.model[0].bn.momentum == yolov8n.model[0].bn.momentum
    assert not any(m.training for m in model.modules())


def test_recalibration_is_part_of_a_run_and_can_be_left_out(settings):
    norms = {}
    for flag in (True, False):
        run = DetectionCompressor(overrides={**settings, "name": f"n-{flag}", "recalibrate": flag})
        run._prune(Path(settings["model"]))
        model = load_checkpoint(run.pruned)[0]
        assert model.pruning["recalibrated"] is flag
        norms[flag] = model.model[3].bn.running_mean
        dense = load_checkpoint(settings["model"])[0].model[3].bn.running_mean
        kept = dense[model.pruning["channels"]["model.3.conv"]["out"]]
        assert torch.allclose(norms[flag], kept, atol=1e-3) is not flag


def losses(run):
    with open(run / "results.csv") as f:
        return next(csv.reader(f))


@needs("distillation")
def test_fine_tuning_distils_the_model_that_was_pruned(settings, tmp_path):
    YOLO(settings["model"]).compress(**{**settings, "epochs": 1}, name="d")
    run = tmp_path / "d-finetune"
    assert YAML.load(run / "args.yaml")["distill_model"] == settings["model"]
    assert "train/dis_loss" in losses(run)
    model = load_checkpoint(run / "weights" / "best.pt")[0]
    assert type(model).__name__ == "DetectionModel" and model.pruning


@needs("distillation")
def test_distillation_resumes(settings, tmp_path, log):
    def interrupt(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    path = DetectionCompressor(overrides={**settings, "name": "r-prune"}).compress()
    overrides = {**settings, "model": path, "name": "r-finetune"}
    trainer = DetectionFinetune(overrides=overrides)
    trainer.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        trainer.train()
    resumed = DetectionFinetune(overrides={**overrides, "resume": True})
    log.clear()
    resumed.train()
    assert "Freezing layer 'teacher_model" not in log.text
    assert log.text.count("the teacher's parameters are frozen, ") == 1
    assert "Freezing layer 'student_model" in log.text  # the student's own stay in the log
    assert resumed.args.distill_model == settings["model"]
    assert any(isinstance(module, Unread) for module in resumed.model.teacher_model.modules())
    assert load_checkpoint(resumed.best)[0].pruning["reached"] == pytest.approx(2.0, rel=0.03)


def test_distillation_can_be_left_out(settings, tmp_path):
    path = DetectionCompressor(overrides={**settings, "name": "o-prune"}).compress()
    DetectionFinetune(
        overrides={**settings, "model": path, "name": "o-finetune", "epochs": 1, "distill": False}
    ).train()
    assert "train/dis_loss" not in losses(tmp_path / "o-finetune")


@needs("distillation")
def test_teacher_must_be_the_model_that_was_pruned(settings, tmp_path, log):
    dense = tmp_path / "dense.pt"
    dense.write_bytes(Path(settings["model"]).read_bytes())
    pruned = DetectionCompressor(overrides={**settings, "model": str(dense), "name": "t-prune"})
    pruned._prune(dense)
    model = load_checkpoint(pruned.pruned)[0]
    assert find_teacher(model) == str(dense)
    dense.write_bytes(b"another")
    assert find_teacher(model) is None
    dense.unlink()
    assert find_teacher(model) is None
    warnings = [r.getMessage() for r in log.records if "no distillation" in r.getMessage()]
    assert len(warnings) == 2 and all(f"'{dense}'" in warning for warning in warnings)


@needs("distillation")
def test_only_heads_with_distillable_features_get_a_teacher(log):
    assert find_teacher(build_model("yolo26n-cls")) is None
    assert "no distillation: Ultralytics distils the features of Detect heads alone, not of Classify" in log.text


def fine_tuning(settings, **keys):
    """Set up a fine-tuning without running it, and return its trainer."""
    if "model" not in keys:
        keys["model"] = DetectionCompressor(overrides={**settings, "name": "s-prune"}).compress()
    trainer = DetectionFinetune(overrides={**settings, "distill": False, **keys})
    set_up(trainer)
    return trainer


def test_short_fine_tuning_steps_after_each_batch(settings, monkeypatch):
    stepped = fine_tuning(settings)
    assert settings["batch"] == stepped.args.nbs < 64 and stepped.accumulate == 1
    model = stepped.args.model
    decay = {group["weight_decay"] for group in stepped.optimizer.param_groups}
    assert decay == {0.0, stepped.args.weight_decay}

    chosen = fine_tuning(settings, model=model, nbs=2 * FAST["batch"])
    assert chosen.args.nbs == 2 * FAST["batch"] and chosen.accumulate == 2
    uneven = fine_tuning(settings, model=model, batch=6)  # Ultralytics gathers 11 batches: 66 images for nbs=64
    assert uneven.args.nbs == 6 and uneven.accumulate == 1
    assert {group["weight_decay"] for group in uneven.optimizer.param_groups} == {0.0, uneven.args.weight_decay}
    if BUILDS_PIPELINE:
        uneven.args.batch = uneven.batch_size = 3  # as Ultralytics does when memory runs out
        uneven._build_train_pipeline()
        assert {group["weight_decay"] for group in uneven.optimizer.param_groups} == {0.0, uneven.args.weight_decay}

    monkeypatch.setattr(stepping, "SHORT_TRAINING", len(stepped.train_loader) * stepped.epochs - 1)
    long = fine_tuning(settings, model=model)
    assert long.args.nbs == 64 and long.accumulate > 1
