# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a run makes of its arguments: weights, task, resume, loggers, and targets out of reach before trainings."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import needs, save_dense, set_up

from ultralytics import YOLO
from ultralytics.cfg.compress import keys as prune_keys
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.engine.compress import finetuner as finetuner_module
from ultralytics.engine.compress import runs as runs_module
from ultralytics.engine.compress.mode import held_weights
from ultralytics.engine.compress.reading import forget_models
from ultralytics.models.yolo.classify.compress import ClassificationCompressor
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune, DetectionSparsifier
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.models.yolo.segment.compress import SegmentationCompressor, SegmentationFinetune
from ultralytics.nn.tasks import torch_safe_load


def test_weights_loaded_into_the_object_are_not_passed_over(settings, tmp_path):
    other = save_dense(YOLO("yolov8n.yaml"), tmp_path / "other.pt")
    model = YOLO(settings["model"])
    assert held_weights(model, {"model": settings["model"]}) == {}
    model.load(other)
    with pytest.raises(ValueError, match="the object holds other weights than 'model=.*best.pt'.*model.save"):
        model.compress(**settings, name="h")
    assert not list(tmp_path.glob("h-*"))


def test_weights_loaded_into_a_yaml_are_what_its_base_training_begins_with(settings):
    model = YOLO("yolov8n.yaml")
    assert held_weights(model, {"model": "yolov8n.yaml"}) == {}
    model.load(settings["model"])
    assert held_weights(model, {"model": "yolov8n.yaml"}) == {"pretrained": settings["model"]}
    keys = {"model": "yolov8n.yaml", "pretrained": True}  # as a configuration file of all keys has it
    assert held_weights(model, keys) == {"pretrained": settings["model"]}
    assert held_weights(model, {**keys, "pretrained": False}) == {"pretrained": False}
    model.load(YOLO("yolov8n.yaml").model)
    with pytest.raises(ValueError, match="the object holds other weights than 'model=yolov8n.yaml'"):
        held_weights(model, {"model": "yolov8n.yaml"})


def test_prediction_leaves_the_object_compressible(settings):
    model = YOLO(settings["model"])
    model.predict(torch.zeros(1, 3, 32, 32), verbose=False)
    assert held_weights(model, {"model": settings["model"]}) == {}


@pytest.mark.parametrize("pretrained", [False, "best_pt"])
def test_pretrained_is_for_the_base_training_alone(settings, pretrained):
    pretrained = settings["model"] if pretrained else False
    run = DetectionCompressor(overrides={**settings, "name": "p-prune", "pretrained": pretrained})
    assert run.training_args("base", "yolov8n.yaml")["pretrained"] == pretrained
    assert all(run.training_args(stage, "x.pt")["pretrained"] is True for stage in ("sparsify", "finetune"))


@pytest.mark.parametrize("model", ["best_pt", "yolov8n.yaml"])
def test_model_of_another_task_is_refused(settings, tmp_path, model):
    model = settings["model"] if model == "best_pt" else model
    with pytest.raises(ValueError, match="is a model for task=detect, and this run is for task=segment"):
        SegmentationCompressor(overrides={**settings, "model": model, "name": "x-prune"})
    assert not list(tmp_path.iterdir())


def test_fused_checkpoint_is_refused(settings, tmp_path):
    fused = YOLO(settings["model"])
    fused.model.fuse(verbose=False)
    fused.save(tmp_path / "fused.pt")
    with pytest.raises(ValueError, match="the model is fused for inference"):
        DetectionCompressor(overrides={**settings, "model": str(tmp_path / "fused.pt"), "name": "x-prune"})


@pytest.mark.parametrize("key", ["model", pytest.param("distill_model", marks=needs("distillation"))])
def test_missing_checkpoint_is_refused_before_work(settings, tmp_path, key):
    message = f"'{key}=nowhere.pt' does not exist. '{key}' must be a trained .pt file"
    with pytest.raises(FileNotFoundError, match=message):
        DetectionCompressor(overrides={**settings, key: "nowhere.pt", "name": "x-prune"})
    assert not list(tmp_path.iterdir())
    settings["model"] = DetectionCompressor(overrides={**settings, "name": "p-prune"}).compress()
    with pytest.raises(FileNotFoundError, match=message):
        DetectionFinetune(overrides={**settings, key: "nowhere.pt", "name": "x-finetune"})
    assert [p.name for p in tmp_path.iterdir()] == ["p-prune"]


@pytest.mark.parametrize(
    ("trainer", "module"), [(SegmentationCompressor, runs_module), (SegmentationFinetune, finetuner_module)]
)
def test_run_to_resume_is_looked_for_among_those_of_the_task(trainer, module, monkeypatch):
    asked = []

    def find_run(args, holds):
        asked.append(args["task"])

    monkeypatch.setattr(module, "find_run", find_run)
    with pytest.raises((FileNotFoundError, ValueError)):  # there is none, and no model to begin with
        trainer(overrides={"model": None, "project": "relative", "name": "x", "resume": True})
    assert asked == ["segment"]


def test_resumed_run_keeps_its_own_arguments(settings, log):
    run = DetectionCompressor(overrides={**settings, "name": "k-prune", "batch": 2})
    run.stages.begin("base", run.save_dir)
    place = {k: settings[k] for k in ("model", "data", "project")}
    resumed = DetectionCompressor(overrides={**place, "name": "k-prune", "resume": True, "speed_up": 3.0, "workers": 0})
    assert (resumed.args.batch, resumed.args.imgsz, resumed.args.plots) == (2, 32, False)
    assert resumed.prune_args.speed_up == 2.0
    assert "resume ignores speed_up=3.0: the run keeps its own" in log.text
    assert resumed.changed == {}  # so that a training stage keeps a batch of its own
    resumed = DetectionCompressor(overrides={**place, "name": "k-prune", "resume": True, "batch": 3})
    assert resumed.args.batch == 3 and resumed.changed == {"batch": 3}
    again = DetectionCompressor(overrides={**place, "name": "k-prune", "resume": True, "batch": 3})
    assert again.args.batch == 3 and again.changed == {"batch": 3}  # the stage still has its own


def test_a_resumed_run_says_that_it_takes_no_other_model_or_data(settings, tmp_path, log):
    run = DetectionCompressor(overrides={**settings, "name": "k-prune"})
    run.stages.begin("base", run.save_dir)
    model, data = tmp_path / "other.pt", tmp_path / "other.yaml"
    model.write_bytes(b"another")
    data.write_text("another")
    other = {"model": str(model), "data": str(data)}
    resumed = DetectionCompressor(overrides={**settings, **other, "name": "k-prune", "resume": True})
    assert (resumed.args.model, resumed.args.data) == (settings["model"], settings["data"])
    assert f"resume ignores model={model}, data={data}: the run keeps its own" in log.text


def test_pretrained_weights_for_a_trained_model_are_said_to_be_unused(settings, log):
    DetectionCompressor(overrides={**settings, "name": "p-prune", "pretrained": "nothing.pt"})
    assert f"'pretrained=nothing.pt' is not used: the weights are those of '{settings['model']}'" in log.text


def test_image_size_that_is_not_given_is_the_tasks_own(settings, tmp_path):
    for i, split in enumerate(("train", "val")):
        for kind in ("dark", "light"):
            (tmp_path / "sorted" / split / kind).mkdir(parents=True)
            image = np.full((32, 32, 3), 200 * (kind == "light") + i, dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "sorted" / split / kind / "0.png"), image)
    keys = {k: v for k, v in settings.items() if k != "imgsz"}
    own = {"model": "yolo11n-cls.yaml", "data": str(tmp_path / "sorted")}
    assert ClassificationCompressor(overrides={**keys, **own, "name": "i-prune"}).args.imgsz == 224
    assert DetectionCompressor(overrides={**keys, "name": "j-prune"}).args.imgsz == 640


def test_trainings_have_the_loggers_of_the_stock_trainer(settings):
    model = DetectionCompressor(overrides={**settings, "name": "l-prune"}).compress()
    keys = {**settings, "name": "l", "prune_method": "slim", "distill": False}
    loggers = {}
    for trainer, own in (
        (DetectionTrainer, settings["model"]),
        (DetectionFinetune, model),
        (DetectionSparsifier, model),
    ):
        run = trainer(overrides={**(prune_keys.split(keys)[0] if trainer is DetectionTrainer else keys), "model": own})
        loggers[trainer] = {f.__module__ for functions in run.callbacks.values() for f in functions}
    assert loggers[DetectionTrainer] & {"ultralytics.utils.callbacks.platform", "ultralytics.utils.callbacks.hub"}
    assert loggers[DetectionFinetune] == loggers[DetectionSparsifier] == loggers[DetectionTrainer]


@pytest.mark.parametrize("keys", [{"model": "yolov8n.yaml"}, {"prune_method": "slim", "sl_epochs": 1}])
def test_target_out_of_reach_is_refused_before_the_trainings(settings, tmp_path, keys):
    with pytest.raises(ValueError, match="'speed_up=5000.0' cannot be reached"):
        DetectionCompressor(overrides={**settings, **keys, "name": "x-prune", "speed_up": 5000.0}).compress()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"speed_up": [2, "a"]}, TypeError, "'speed_up=a' is of invalid type str"),
        ({"speed_up": [2, 0.5]}, ValueError, "'speed_up=0.5' .* greater than 1.0"),
        ({"speed_up": [2, 3], "save_dir": "here"}, ValueError, "'save_dir=here' is one folder"),
    ],
)
def test_sweep_is_checked_before_work(settings, tmp_path, keys, error, message):
    with pytest.raises(error, match=message):
        YOLO(settings["model"]).compress(**{**settings, **keys}, name="x")
    assert not list(tmp_path.iterdir())


def test_report_that_an_interruption_has_cost_is_written_on_resume(settings, tmp_path):
    report = YOLO(settings["model"]).compress(**{**settings, "epochs": 1}, name="r")
    stages = tmp_path / "r-prune" / "stages.yaml"
    record = YAML.load(stages)
    del record["finetune"]["result"]  # as if it had stopped while the report was made
    YAML.save(stages, record)
    (tmp_path / "r-finetune" / "report.json").unlink()
    keys = {**settings, "model": str(tmp_path / "r-prune" / "weights" / "prune.pt"), "name": "r-finetune"}
    resumed = YOLO(settings["model"]).compress(**settings, name="r", resume=True)
    assert resumed == json.loads((tmp_path / "r-finetune" / "report.json").read_text())
    assert resumed["rows"].keys() == report["rows"].keys()
    assert resumed["rows"]["fine-tuned"]["weights"] == str(tmp_path / "r-finetune" / "weights" / "best.pt")
    for name, row in report["rows"].items():  # accuracies after one epoch are 0: what they are of has to be the same
        same = ("weights", "parameters", "gflops", "size_mb", "mAP50-95")
        assert [resumed["rows"][name][key] for key in same] == pytest.approx([row[key] for key in same])
    again = DetectionFinetune(overrides={**keys, "exist_ok": True, "distill": False})
    set_up(again)
    assert not (tmp_path / "r-finetune" / "report.json").exists()  # another run's


def test_dense_checkpoint_is_read_no_more_often_than_needed(settings):
    """Once each by the YOLO object, by this package, by the validation's YOLO object and as the teacher."""
    read = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code is torch_safe_load.__code__:
            read.append(str(frame.f_locals["weight"]))

    forget_models()  # of tests before
    sys.setprofile(profile)
    try:
        YOLO(settings["model"]).compress(**{**settings, "epochs": 1}, name="o")
    finally:
        sys.setprofile(None)
    assert read.count(settings["model"]) == (4 if HAS_DISTILLATION else 3)
