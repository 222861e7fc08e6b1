# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys of the compress mode stay where stock code does not read, through every stage, resume and DDP worker."""

import pickle
import subprocess
import sys

import pytest
import torch
from conftest import FAST, Interrupted, interrupt, needs

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionSparsifier
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG_DICT

SLIM = {"prune_method": "slim", "reg": 0.002, "sl_epochs": 1, "distill": False, "speed_up": 1.5}


@pytest.fixture
def slim_run(settings, tmp_path):
    """A run with every stage."""
    keys = {**settings, **SLIM, "epochs": 1, "name": "s-prune", "model": "yolov8n.yaml"}
    run = DetectionCompressor(overrides=keys)
    run.compress()
    run.finetune()
    return tmp_path


def test_stock_files_have_stock_keys_alone(slim_run):
    known = {*DEFAULT_CFG_DICT, "save_dir"}
    folders = {folder.name: folder for folder in slim_run.iterdir()}
    assert folders.keys() == {"s-base", "s-sparsify", "s-prune", "s-finetune"}
    for name, folder in folders.items():
        assert YAML.load(folder / "args.yaml").keys() == known
        for file in (folder / "weights").iterdir():
            model, checkpoint = load_checkpoint(file)
            assert checkpoint["train_args"].keys() <= known and vars(model).get("args", {}).keys() <= known
        if name == "s-base":  # a stock trainer's
            assert not (folder / "compress.yaml").exists()
        else:
            assert YAML.load(folder / "compress.yaml") == {**DEFAULTS, **SLIM}


@pytest.mark.parametrize("how", ["cfg", "command line"])
def test_args_yaml_of_a_run_repeats_it(settings, tmp_path, how):
    DetectionCompressor(overrides={**settings, "speed_up": 1.5, "prune_method": "l1", "name": "c-prune"})
    file, place = str(tmp_path / "c-prune" / "args.yaml"), {"name": "again", "model": settings["model"]}
    if how == "cfg":
        run = DetectionCompressor(cfg=file, overrides=place)
        assert run.save_dir == tmp_path / "again"
    else:
        command = f"yolo compress cfg={file} name=again speed_up=1.2"
        code = "from torch.optim.optimizer import register_optimizer_step_pre_hook as before_step; import sys; "
        code += f"before_step(sys.exit); from ultralytics.cfg import entrypoint; entrypoint({command!r})"
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        own = {"speed_up": 1.2, "prune_method": "l1"}
        assert YAML.load(tmp_path / "again-prune" / "compress.yaml") == {**DEFAULTS, **own}
        assert YAML.load(tmp_path / "c-prune" / "compress.yaml")["speed_up"] == 1.5  # its results stay
        return
    assert (run.prune_args.speed_up, run.prune_args.prune_method, run.args.imgsz) == (1.5, "l1", 32)


def stop_first_epoch(trainer, overrides):
    """Train with a class until its first epoch has been saved; return the last.pt."""
    run = trainer(overrides={**overrides, "epochs": 2, "name": "stopped"})
    run.add_callback("on_model_save", interrupt)
    with pytest.raises(Interrupted):
        run.train()
    return run.last


def test_resumed_training_keeps_its_keys(settings, log):
    last = stop_first_epoch(DetectionSparsifier, {**settings, **SLIM})
    resumed = DetectionSparsifier(overrides={"resume": str(last), "reg": 0.5, "sl_epochs": 1})
    assert (resumed.prune_args.reg, resumed.prune_args.prune_method) == (0.002, "slim")
    assert "resume ignores reg=0.5: the run keeps its own" in log.text
    resumed.train()
    assert resumed.epoch == 1
    (last.parents[1] / "compress.yaml").unlink()
    resumed = DetectionSparsifier(overrides={"resume": str(last), "prune_method": "group_slim"})
    assert resumed.prune_args.prune_method == "group_slim" and "compress.yaml' is gone" in log.text


def as_version_0_1_0_wrote_it(last, keys):
    """Put the keys among those of training, as the first version did."""
    checkpoint = torch.load(last, weights_only=False)
    checkpoint["train_args"].update(keys)
    torch.save(checkpoint, last)
    args = last.parents[1] / "args.yaml"
    YAML.save(args, {**YAML.load(args), **keys})
    (last.parents[1] / "compress.yaml").unlink(missing_ok=True)


def test_runs_of_version_0_1_0_are_resumed(settings, tmp_path):
    keys = {**DEFAULTS, **SLIM}
    last = stop_first_epoch(DetectionSparsifier, {**settings, **SLIM})
    as_version_0_1_0_wrote_it(last, keys)
    resumed = DetectionSparsifier(overrides={"resume": str(last)})
    assert vars(resumed.prune_args) == keys
    resumed.train()
    assert not load_checkpoint(last)[1]["train_args"].keys() & DEFAULTS.keys()
    run = DetectionCompressor(overrides={**settings, "speed_up": 1.5, "name": "o-prune"})
    as_version_0_1_0_wrote_it(settings_last(run, last), {**DEFAULTS, "speed_up": 1.5})
    resumed = DetectionCompressor(overrides={"project": str(tmp_path), "name": "o-prune", "resume": True})
    assert resumed.prune_args.speed_up == 1.5 and not vars(resumed.args).keys() & DEFAULTS.keys()


def settings_last(run, last):
    """Copy a last.pt into a run's folder."""
    (run.wdir / "last.pt").write_bytes(last.read_bytes())
    return run.wdir / "last.pt"


def test_plain_training_of_version_0_1_0_is_resumed(settings):
    stock = {k: v for k, v in settings.items() if k not in DEFAULTS}
    last = stop_first_epoch(DetectionTrainer, stock)
    as_version_0_1_0_wrote_it(last, DEFAULTS)
    resumed = DetectionTrainer(overrides={"resume": str(last)})
    resumed.train()
    assert not load_checkpoint(last)[1]["train_args"].keys() & DEFAULTS.keys()


@needs("distributed workers that get callbacks")
def test_ddp_worker_gets_the_keys(settings):
    parent = DetectionSparsifier(overrides={**settings, **SLIM, "name": "d"})
    assert "compress" not in parent.callbacks  # nothing to carry without workers
    parent = SeveralDevices(overrides={**settings, **SLIM, "name": "d"})
    state = pickle.loads(pickle.dumps({"args": vars(parent.args), "callbacks": parent.callbacks}))
    (parent.save_dir / "compress.yaml").unlink()  # Ultralytics empties the folder
    worker = DetectionSparsifier(
        cfg={**DEFAULT_CFG_DICT, "save_dir": ""}, overrides=state["args"], _callbacks=state["callbacks"]
    )
    assert worker.prune_args == parent.prune_args and worker.save_dir == parent.save_dir
    assert YAML.load(parent.save_dir / "compress.yaml") == vars(parent.prune_args)
    worker.train()


class SeveralDevices(DetectionSparsifier):
    """A parent of DDP workers, without the devices for them."""

    @property
    def ddp(self):
        """Say that there are several devices."""
        return True

    @ddp.setter
    def ddp(self, value):
        pass


def test_pruned_weights_are_transferred_to_another_architecture(settings, tmp_path):
    pruned = DetectionCompressor(overrides={**settings, "name": "p-prune"}).compress()
    stock = {k: v for k, v in FAST.items() if k not in DEFAULTS} | {"epochs": 1, "project": str(tmp_path)}
    dense = sum(p.numel() for p in YOLO("yolov8s.yaml").model.parameters())
    model = YOLO("yolov8s.yaml")
    model.train(data=settings["data"], pretrained=pruned, name="small", **stock)
    assert sum(p.numel() for p in model.model.parameters()) == pytest.approx(dense, rel=0.02)  # other classes
    trainer = DetectionTrainer(overrides={**stock, "data": settings["data"], "model": pruned, "pretrained": pruned})
    with pytest.raises(ValueError, match="'pretrained=.*prune.pt' is invalid with a pruned model"):
        trainer.setup_model()
