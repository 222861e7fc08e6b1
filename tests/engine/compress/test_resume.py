# SPDX-License-Identifier: AGPL-3.0-or-later
"""A resumed run gives what an undisturbed one gives; what it rests on is checked."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import FAST, Interrupted, interrupt, needs, save_dense
from test_compressor import epochs_done

from ultralytics import YOLO
from ultralytics.cfg import entrypoint
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import NUMBER_MARK, YAML
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.engine.compress.batches import training_batches
from ultralytics.engine.compress.lock import unlock
from ultralytics.engine.compress.recovery import drop_epochs_after, read_checkpoint, recover, training_ended
from ultralytics.engine.compress.runs import find_run, located
from ultralytics.engine.pruning.files import sweep_temporaries
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune


def draw_numbers():
    """Stand for whatever has run before in the process."""
    random.random()
    np.random.rand(3)
    torch.rand(5)


def test_measurements_do_not_depend_on_what_ran_before(settings):
    run = DetectionCompressor(overrides={**settings, "name": "s-prune", "prune_batches": 2})
    model = load_checkpoint(settings["model"])[0]

    def images(description="Gradients", seed=0):
        run.args.seed = seed
        return torch.cat([batch["img"] for batch in training_batches(run, model, 4, description)])

    first = images()
    draw_numbers()
    assert torch.equal(first, images())
    assert not torch.equal(first, images(seed=1))
    assert not torch.equal(first, images("Batch norms"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", bytes(1000)])
def test_checkpoint_that_was_not_written_to_its_end_is_absent(settings, tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    assert read_checkpoint(tmp_path / "last.pt") is None
    assert read_checkpoint(tmp_path / "nowhere.pt") is None
    assert read_checkpoint(Path(settings["model"])) is not None
    whole = Path(settings["model"]).read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    assert read_checkpoint(tmp_path / "last.pt") is None


def stopped_in(name, epoch):
    """Return a callback that interrupts a training in an epoch, from 0."""

    def stop(trainer):
        if trainer.save_dir.name == name and trainer.epoch == epoch:
            raise Interrupted

    return stop


@pytest.fixture
def stopped(settings, tmp_path):
    """A run of three epochs that was stopped in the fine-tuning's second one, before that was saved."""
    keys = {**settings, "epochs": 3, "name": "r"}
    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", stopped_in("r-finetune", 1))
    with pytest.raises(Interrupted):
        model.compress(**keys)
    return keys


@pytest.mark.parametrize("damaged", ["last.pt", "best.pt", "both"])
def test_damaged_checkpoints_do_not_block_a_resume(stopped, tmp_path, log, damaged):
    weights = tmp_path / "r-finetune" / "weights"
    for name in ("last.pt", "best.pt") if damaged == "both" else (damaged,):
        (weights / name).write_bytes(b"")
    if damaged == "best.pt":  # which no later epoch replaces
        torch.save({**torch.load(weights / "last.pt", weights_only=False), "best_fitness": 1e9}, weights / "last.pt")
    report = YOLO(stopped["model"]).compress(**stopped, resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r-finetune", "r-prune"]
    assert epochs_done(tmp_path / "r-finetune") == [1, 2, 3] and list(report["rows"])[-1] == "fine-tuned"
    words = {
        "last.pt": "last.pt' cannot be read: going on from",
        "best.pt": "best.pt' cannot be read: ",
        "both": "can be read: this training begins anew",
    }
    assert words[damaged] in log.text


def test_a_training_that_patience_has_ended_is_not_trained_on(stopped, tmp_path):
    last = tmp_path / "r-finetune" / "weights" / "last.pt"
    checkpoint = torch.load(last, weights_only=False)
    checkpoint["epoch"] = 1
    for patience, best, ended in ((2, 1, False), (0, 1, False), (1, 0, False), (1, 1, True)):  # 0: never validated
        checkpoint["train_args"]["patience"] = patience
        torch.save({**checkpoint, "stopper": {"best_fitness": 0.0, "best_epoch": best}}, last)
        assert training_ended(last) == ended
    torch.save({**checkpoint, "stopper": {"best_fitness": 0.0, "best_epoch": 1}}, last)
    report = YOLO(stopped["model"]).compress(**stopped, resume=True)
    assert epochs_done(tmp_path / "r-finetune") == [1] and list(report["rows"])[-1] == "fine-tuned"


def test_epoch_of_a_kill_stands_once_in_the_tables(stopped, tmp_path):
    table = tmp_path / "r-finetune" / "results.csv"
    heading, first = table.read_text().splitlines()
    again = first.replace("1,", "2,", 1)
    table.write_text("\n".join([heading, first, again, again[:30]]))  # killed before that epoch was saved
    YOLO(stopped["model"]).compress(**stopped, resume=True)
    assert epochs_done(tmp_path / "r-finetune") == [1, 2, 3]
    results = load_checkpoint(tmp_path / "r-finetune" / "weights" / "last.pt")[1]["train_results"]
    assert [int(epoch) for epoch in results["epoch"]] == [1, 2, 3]


@needs("distillation")
def test_the_last_checkpoint_of_a_fine_tuning_that_was_stopped_can_be_trained(stopped, tmp_path):
    last = str(tmp_path / "r-finetune" / "weights" / "last.pt")
    pruned = load_checkpoint(tmp_path / "r-prune" / "weights" / "prune.pt")[0]
    keys = {key: stopped[key] for key in FAST if key != "speed_up"} | {"data": stopped["data"], "epochs": 1}
    trained = YOLO(last)
    trained.train(**keys, project=str(tmp_path), name="t")
    assert [p.shape for p in trained.model.parameters()] == [p.shape for p in pruned.parameters()]
    for key in ("model", "distill_model"):
        with pytest.raises(ValueError, match=f"'{key}={last}' is of a distillation that was stopped. Resume it"):
            DetectionCompressor(overrides={**stopped, key: last, "name": "again-prune"})


def test_rows_that_are_dropped(tmp_path):
    table = tmp_path / "sparsity.csv"
    table.write_text("epoch,0.1,0.2\n1,0.5,0.5\n2,0.5,0.5\n3,0.5,0.5\n1,0\n")
    drop_epochs_after(2, table)
    assert table.read_text() == "epoch,0.1,0.2\n1,0.5,0.5\n2,0.5,0.5\n"
    drop_epochs_after(2, tmp_path / "nowhere.csv")


def test_best_is_the_last_epochs_if_that_was_the_best(stopped, tmp_path):
    """Killed between the two: Ultralytics writes last.pt, then best.pt."""
    last, best = (tmp_path / "r-finetune" / "weights" / name for name in ("last.pt", "best.pt"))
    checkpoint = torch.load(last, weights_only=False)
    torch.save({**checkpoint, "epoch": 1}, last)
    assert torch.load(best, weights_only=False)["epoch"] == 0
    assert recover(last, best) and torch.load(best, weights_only=False)["epoch"] == 1
    torch.save({**checkpoint, "epoch": 2, "best_fitness": 1e9}, last)
    assert recover(last, best) and torch.load(best, weights_only=False)["epoch"] == 1


@pytest.mark.parametrize("name", ["m[1]", "a*b", "v1.5"])
def test_names_with_special_characters_are_found(tmp_path, name):
    other = f"{name}2" if NUMBER_MARK else f"{name}-2"
    for time, folder in enumerate((name, f"{name}{NUMBER_MARK}2", other, f"{name}{NUMBER_MARK}3b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stages.yaml").touch()
        os.utime(tmp_path / folder / "stages.yaml", (time, time))
    place = {"project": str(tmp_path), "name": name, "task": "detect", "mode": "compress"}
    assert find_run(place, "stages.yaml") == tmp_path / f"{name}{NUMBER_MARK}2"  # others are names of their own


def test_run_without_a_record_begins_anew_in_its_folder(settings, tmp_path):
    (tmp_path / "k-prune" / "weights").mkdir(parents=True)
    (tmp_path / "k-prune" / ".stages.yaml.1.tmp").touch()
    run = DetectionCompressor(overrides={**settings, "name": "k-prune", "resume": True})
    assert run.save_dir == tmp_path / "k-prune" and not run.resumed
    record = YAML.load(run.save_dir / "stages.yaml")
    YAML.save(run.save_dir / "stages.yaml", {**record, "unready": True})  # its arguments were not written to the end
    (run.save_dir / "args.yaml").write_text("")
    again = DetectionCompressor(overrides={**settings, "name": "k-prune", "resume": True, "speed_up": 3.0})
    assert again.save_dir == run.save_dir and again.prune_args.speed_up == 3.0
    assert YAML.load(run.save_dir / "args.yaml")["imgsz"] == FAST["imgsz"]


def test_folders_are_noted_before_they_are_made(settings, tmp_path, monkeypatch):
    get_dataset = BaseTrainer.get_dataset

    def stop(trainer):  # in a constructor, which has made the folder; older ones call no callback there
        if getattr(trainer, "save_dir", tmp_path).name == stopped:
            raise Interrupted
        return get_dataset(trainer)

    model = YOLO(settings["model"])
    monkeypatch.setattr(BaseTrainer, "get_dataset", stop)
    for stopped in ("n-prune", "n-finetune"):
        for resume in (False, True) if stopped == "n-prune" else (True,):
            with pytest.raises(Interrupted):
                model.compress(**settings, name="n", resume=resume)
    stopped = None
    model.compress(**settings, name="n", resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n-finetune", "n-prune"]


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_dense_model_is_the_one_that_the_run_began_with(settings, tmp_path, change):
    own = shutil.copy(settings["model"], tmp_path / "own.pt")
    settings = {**settings, "model": str(own), "name": "d-prune"}
    DetectionCompressor(overrides=settings)
    Path(own).unlink() if change == "deleted" else save_dense(YOLO("yolov8n.yaml"), own)
    message = {"deleted": "own.pt', .* is gone. Put it back, or begin", "replaced": "own.pt', .* has changed since"}
    with pytest.raises((FileNotFoundError, ValueError), match=message[change]):
        DetectionCompressor(overrides={**settings, "resume": True})


def test_pruned_weights_that_are_gone_name_the_remedy(settings, tmp_path):
    DetectionCompressor(overrides={**settings, "name": "g-prune"}).compress()
    (tmp_path / "g-prune" / "weights" / "prune.pt").unlink()
    again = DetectionCompressor(overrides={**settings, "name": "g-prune", "resume": True})
    message = "prune.pt', which stage 'prune' of .* has made, is gone. Put it back, or begin a new run without 'resume'"
    with pytest.raises(FileNotFoundError, match=message):
        again.compress()


def test_run_that_was_moved_resumes(tiny_data, tmp_path):
    keys = {**FAST, "data": tiny_data, "name": "m"}
    model = YOLO("yolov8n.yaml")
    model.add_callback("on_train_epoch_end", stopped_in("m-finetune", 1))
    with pytest.raises(Interrupted):
        model.compress(**keys, project=str(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    report = YOLO("yolov8n.yaml").compress(**keys, project=str(tmp_path / "there"), resume=True)
    assert not (tmp_path / "here").exists()
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["m-base", "m-finetune", "m-prune"]
    assert all(Path(row["weights"]).is_relative_to(tmp_path / "there") for row in report["rows"].values())
    assert epochs_done(tmp_path / "there" / "m-finetune") == [1, 2]


def test_run_is_resumed_from_another_working_directory(settings, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "flops").mkdir(parents=True)  # no budget
    shutil.copy(settings["model"], tmp_path / "here" / "own.pt")
    shutil.copy(settings["data"], tmp_path / "here" / "own.yaml")
    monkeypatch.chdir(tmp_path / "here")
    files = {"model": "own.pt", "data": "own.yaml", "distill_model": "own.pt"}
    keys = {**settings, **files, "project": str(tmp_path / "here"), "name": "w-prune"}
    DetectionCompressor(overrides=keys)
    monkeypatch.chdir(tmp_path / "there")
    resumed = []

    def stop(run):
        run.release_folder()
        return Path(settings["model"])

    monkeypatch.setattr(DetectionCompressor, "compress", lambda run: resumed.append(run))
    monkeypatch.setattr(DetectionCompressor, "finetune", stop)
    entrypoint(f"yolo compress resume={tmp_path / 'here' / 'w-prune'}")
    (tmp_path / "here").rename(tmp_path / "elsewhere")  # with all that it rests on
    entrypoint(f"yolo compress resume={tmp_path / 'elsewhere' / 'w-prune'}")
    for run, place in zip(resumed, ("here", "elsewhere"), strict=True):
        assert run.save_dir == tmp_path / place / "w-prune"
        for key in ("model", "data", "distill_model"):
            assert Path(vars(run.args)[key]).parent == tmp_path / place, key
        assert run.prune_args.budget == "flops"


def test_fine_tuning_goes_on_after_all_that_it_rests_on_was_moved(settings, tmp_path, monkeypatch):
    (tmp_path / "here" / "models").mkdir(parents=True)
    for name in ("own.pt", "teacher.pt"):
        shutil.copy(settings["model"], tmp_path / "here" / "models" / name)
    shutil.copy(settings["data"], tmp_path / "here" / "own.yaml")
    monkeypatch.chdir(tmp_path / "here")
    files = {"model": "models/own.pt", "data": "own.yaml"} | (
        {"distill_model": "models/teacher.pt"} if HAS_DISTILLATION else {}
    )
    model = YOLO(files["model"])
    model.add_callback("on_train_epoch_end", stopped_in("m-finetune", 1))
    with pytest.raises(Interrupted):
        model.compress(**{**settings, **files, "project": str(tmp_path / "here")}, name="m")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    (run,) = (tmp_path / "there").rglob("m-prune")
    entrypoint(f"yolo compress resume={run}")
    assert not (tmp_path / "here").exists()
    assert epochs_done(run.with_name("m-finetune")) == [1, 2]
    if HAS_DISTILLATION:
        saved = YAML.load(run.with_name("m-finetune") / "args.yaml")
        assert saved["distill_model"] == str(tmp_path / "there" / "models" / "teacher.pt")


def test_a_cut_that_was_moved_with_its_dense_model_is_fine_tuned_as_if_it_had_not(settings, tmp_path, monkeypatch, log):
    (tmp_path / "here").mkdir()
    for key, name in (("model", "own.pt"), ("data", "own.yaml")):
        shutil.copy(settings[key], tmp_path / "here" / name)
    files = {"model": str(tmp_path / "here" / "own.pt"), "data": str(tmp_path / "here" / "own.yaml")}
    keys = {**settings, **files, "epochs": 1, "project": str(tmp_path / "here" / "runs"), "speed_up": [2.0]}
    with monkeypatch.context() as patch:
        patch.setattr(DetectionCompressor, "finetune", interrupt)
        with pytest.raises(Interrupted):
            YOLO(files["model"]).compress(**keys, name="m")
    for place in ("there", "elsewhere"):  # the second time, everything is complete
        here = next(tmp_path.glob("*/own.pt")).parent
        here.rename(tmp_path / place)
        own = {"model": str(tmp_path / place / "own.pt"), "data": str(tmp_path / place / "own.yaml")}
        own["project"] = str(tmp_path / place / "runs")
        result = YOLO(own["model"]).compress(**{**keys, **own}, name="m", resume=True)
        run = tmp_path / place / "runs" / "m-2x-finetune"
        assert "is gone" not in log.text and epochs_done(run) == [1]
        assert all(Path(row["weights"]).is_relative_to(tmp_path / place) for row in result["rows"])
    if HAS_DISTILLATION:
        assert YAML.load(run / "args.yaml")["distill_model"].endswith("there/own.pt")


@pytest.mark.parametrize(("value", "found"), [("onnx", "onnx"), ("answer.json", "{here}/answer.json"), (None, None)])
def test_budget_is_a_file_where_it_is_no_name(value, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "answer.json").touch()
    assert located({"budget": value, "project": "onnx"}) == {
        "budget": found and found.format(here=tmp_path),
        "project": "onnx",
    }


@pytest.mark.parametrize("resume", ["True", "nowhere", "."])
def test_command_without_a_model_resumes_no_other(resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SyntaxError, match="'model' argument is missing"):
        entrypoint(f"yolo compress resume={resume}")


def test_temporary_files_of_dead_processes_are_swept(settings, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "weights").mkdir()
    left = tmp_path / "weights" / f".prune.pt.{dead.pid}.tmp"
    others = [tmp_path / f".report.json.{os.getpid()}.tmp", tmp_path / "mine.tmp", tmp_path / f"x.{dead.pid}.tmp"]
    for file in (left, *others):
        file.touch()
    assert not psutil.pid_exists(dead.pid)
    sweep_temporaries(tmp_path)
    assert not left.exists() and all(file.exists() for file in others)


HOLDER = """
import sys, time
from pathlib import Path
from ultralytics.engine.compress.lock import lock
lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_second_run_in_a_folder_is_refused(settings, tmp_path):
    run = tmp_path / "l-prune"
    DetectionCompressor(overrides={**settings, "name": "l-prune"}).compress()
    unlock(run)
    with subprocess.Popen([sys.executable, "-c", HOLDER, run], stdout=subprocess.PIPE, text=True) as holder:
        assert "held\n" in iter(holder.stdout.readline, "")
        for own in ({"resume": True}, {"exist_ok": True}):
            with pytest.raises(RuntimeError, match="l-prune' is in use by another run. Wait until it has ended, or"):
                DetectionCompressor(overrides={**settings, "name": "l-prune", **own})
        holder.send_signal(signal.SIGKILL)
    DetectionCompressor(overrides={**settings, "name": "l-prune", "resume": True}).compress()


def test_folder_is_free_when_its_run_has_ended_or_failed(settings, tmp_path):
    path = DetectionCompressor(overrides={**settings, "name": "e-prune"}).compress()
    trainer = DetectionFinetune(overrides={**settings, "model": path, "name": "e-finetune"})
    trainer.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        trainer.train()
    run = DetectionCompressor(overrides={**settings, "name": "f-prune"})
    run._compress = interrupt
    with pytest.raises(Interrupted):
        run.compress()
    for name in ("e-prune", "e-finetune", "f-prune"):
        subprocess.run([sys.executable, "-c", HOLDER.replace("600", "0"), tmp_path / name], check=True)


def test_article_style_fine_tuning_that_was_stopped_early_begins_anew_in_its_folder(settings, tmp_path):
    path = DetectionCompressor(overrides={**settings, "name": "a-prune"}).compress()
    overrides = {**settings, "epochs": 1, "model": path, "name": "a-finetune"}
    trainer = DetectionFinetune(overrides=overrides)
    trainer.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        trainer.train()
    DetectionFinetune(overrides={**overrides, "resume": True}).train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-finetune", "a-prune"]
    assert json.loads((tmp_path / "a-finetune" / "report.json").read_text())["rows"]["fine-tuned"]
