# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compress mode is a mode like any other of Ultralytics, and turning it on changes nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import ultralytics_compress_startup
from conftest import load_architecture, no_argument
from torch import nn

import ultralytics.cfg
from ultralytics import SAM, YOLO
from ultralytics.cfg.compress import __version__, activation, cli
from ultralytics.cfg.compress.compat.files import READER, YAML
from ultralytics.cfg.compress.compat.keys import has_module
from ultralytics.data import utils as data_utils
from ultralytics.engine.compress.families import COMPRESSORS, find_compressor
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.nn.modules import block


class Unknown(nn.Module):
    """A class that Ultralytics no longer has."""


def test_activating_again_changes_nothing():
    before = dict(vars(ultralytics.cfg)), YOLO.compress, [*activation.replaced]
    activation.activate()
    assert (dict(vars(ultralytics.cfg)), YOLO.compress, activation.replaced) == before
    assert ultralytics.cfg.MODES.count("compress") == 1


def test_models_that_are_not_pruned_do_not_wait_for_torch_pruning():
    code = (
        "import sys; from ultralytics import YOLO; from ultralytics.cfg.compress.keys import get_prune_cfg; "
        "model = YOLO('yolov8n.yaml'); get_prune_cfg({'prune_method': 'lamp'}); assert model._smart_load('trainer'); "
        "assert 'torch_pruning' not in sys.modules; from ultralytics.engine.compress.families import find_compressor; "
        "assert find_compressor(model).__name__ == 'DetectionCompressor'"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_models_that_are_not_pruned_are_loaded_and_built_by_nothing_of_the_library(best_pt):
    """It names classes of Ultralytics, one of which may have moved in a release that is newer than this package."""
    code = (
        "import sys; from types import SimpleNamespace; from ultralytics import YOLO; "
        "from ultralytics.models.yolo.detect import DetectionTrainer; model = YOLO(sys.argv[1]).model; "
        "trainer = DetectionTrainer.__new__(DetectionTrainer); trainer.args = SimpleNamespace(pretrained=True); "
        "trainer.data = {'nc': 2, 'channels': 3}; trainer.get_model(model.yaml, model, verbose=False); "
        "found = [name for name in sys.modules if name.startswith('ultralytics.engine.pruning.')]; "
        "assert {*found} == {f'ultralytics.engine.pruning.checkpoint{rest}' for rest in ('', '.marks')}, found"
    )
    run = subprocess.run([sys.executable, "-c", code, best_pt], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_where_classes_have_moved_the_error_of_a_checkpoint_is_ultralytics_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Unknown, "__module__", block.__name__)
    monkeypatch.setattr(block, "Unknown", Unknown, raising=False)
    torch.save({"model": Unknown()}, tmp_path / "unknown.pt")
    code = (
        "import sys; from ultralytics import YOLO; from ultralytics.nn.modules import head; del head.Detect\n"
        "try: YOLO(sys.argv[1])\nexcept (AttributeError, TypeError) as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "unknown.pt"], capture_output=True, text=True)
    assert "'Unknown' on <module 'ultralytics.nn.modules.block'" in run.stdout, run.stderr


def test_startup_watches_what_activation_patches():
    assert set(ultralytics_compress_startup.WATCHED) == set(activation.PATCHES)


def test_startup_finds_every_module_of_the_overlay():
    root = Path(__file__).resolve().parents[3]
    files = [file.relative_to(root) for file in (root / "ultralytics").rglob("*.py") if file.parent.name != "startup"]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    own = tuple(f"{name}." for name in ultralytics_compress_startup.OWN)
    tasks = [name for name in names if name.startswith("ultralytics.models.") and name.endswith(".compress")]
    assert len(tasks) >= 8 and [name for name in names if not f"{name}.".startswith(own) and name not in tasks] == []


def test_compressor_is_found_for_every_task_and_for_derived_classes():
    class Mine(YOLO):
        """Somebody's own class."""

    assert find_compressor(Mine("yolov8n.yaml")) is DetectionCompressor
    for name, tasks in COMPRESSORS.items():
        if not (model := getattr(ultralytics, name, None)):
            continue  # this Ultralytics has no such models
        yolo = model.__new__(model)
        there = {task for task, (module, _) in tasks.items() if has_module(module.replace("compress", "train"))}
        assert there == yolo.task_map.keys()
        for task in there:
            vars(yolo)["task"] = task
            assert find_compressor(yolo).task == task
    segment_anything = SAM.__new__(SAM)
    vars(segment_anything)["task"] = "segment"
    with pytest.raises(ValueError, match="SAM models of 'task=segment' are not supported by compress"):
        find_compressor(segment_anything)


def test_misspelt_key_gets_a_hint(settings):
    with pytest.raises(SyntaxError, match=no_argument("sped_up") + ". .*speed_up=2.0"):
        ultralytics.cfg.entrypoint("yolo compress model=yolov8n.yaml sped_up=3")
    with pytest.raises(SyntaxError, match=no_argument("sped_up") + ". .*speed_up=2.0"):
        YOLO("yolov8n.yaml").compress(sped_up=3)
    with pytest.raises(SyntaxError, match=no_argument("sped_up") + ". .*speed_up=2.0"):
        DetectionCompressor(overrides={**settings, "sped_up": 3})


def test_other_modes_refuse_the_keys_as_ever():
    for command in ("val model=yolov8n.yaml speed_up=7", "train distill", "speed_up=7"):
        with pytest.raises(SyntaxError, match="is not a valid YOLO argument"):
            ultralytics.cfg.entrypoint(f"yolo {command}")


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("help", ["'compress'", "yolo compress"]),
        ("cfg", ["imgsz", "speed_up: 2.0"]),
        ("version", [ultralytics.__version__, f"ultralytics-compress {__version__}"]),
        ("compress", ["yolo compress model="]),
    ],
)
def test_cli_shows_mode_and_keys(command, texts, log):
    ultralytics.cfg.entrypoint(f"yolo {command}")
    assert all(text in log.text for text in texts)


def test_cli_refuses_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="speed_up=0.5"):
        ultralytics.cfg.entrypoint(f"yolo compress model=yolov8n.yaml data=coco8.yaml speed_up=0.5 project={tmp_path}")
    assert not list(tmp_path.iterdir())


def test_cli_knows_the_keys_while_it_reads_a_command_alone(monkeypatch, log, tmp_path):
    seen = []

    def compress(self, **kwargs):
        seen.append((kwargs, ultralytics.cfg.DEFAULT_CFG_DICT, getattr(ultralytics.cfg, READER)))

    monkeypatch.setattr(ultralytics.engine.model.Model, "compress", compress)
    before = ultralytics.cfg.DEFAULT_CFG_DICT, getattr(ultralytics.cfg, READER)
    (tmp_path / "run").mkdir()
    YAML.save(tmp_path / "run/args.yaml", {"mode": "compress", "model": "yolov8n.yaml", "epochs": 3})
    YAML.save(tmp_path / "run/compress.yaml", {"speed_up": 3.0})
    commands = ["compress model=yolov8n.yaml speed_up=1e1 distill", "train mode=compress model=yolov8n.yaml"]
    for command in (*commands, f"cfg={tmp_path / 'run/args.yaml'} round_to=4"):
        ultralytics.cfg.entrypoint(f"yolo {command}")
    assert [(default, yaml) for _, default, yaml in seen] == [before] * 3
    assert seen[0][0] == {"mode": "compress", "model": "yolov8n.yaml", "speed_up": 10.0, "distill": True}
    assert seen[2][0] == {"mode": "compress", "model": "yolov8n.yaml", "epochs": 3, "speed_up": 3.0, "round_to": 4}
    assert ultralytics.engine.model.Model.compress is compress
    assert "modes/compress" not in log.text


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["train"], "train"),
        (["mode", "=", "compress"], "compress"),
        (["--compress,"], "compress"),
        (["compress", "val"], "val"),
        (["imgsz=[3,"], None),
        (["cfg=nowhere.yaml"], None),
    ],
)
def test_mode_of_a_command(words, mode):
    assert cli.mode_of(ultralytics.cfg, words) == mode


@pytest.mark.parametrize("name", ["yolov8s-worldv2", "yoloe-26s"])
def test_model_whose_classes_are_open_is_refused_with_the_remedy(tmp_path, name):
    load_architecture(f"{name}.yaml")
    with pytest.raises(ValueError, match=r"(by embeddings of their names|without classes).*(set the|Set them)"):
        YOLO(f"{name}.yaml").compress(data="coco8.yaml", project=str(tmp_path))


def test_files_that_ultralytics_finds_are_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(data_utils.check_file("shapes.yaml")).parent.name == "datasets"
    assert data_utils.check_file("nothing.yaml", hard=False) == []
    with pytest.raises(FileNotFoundError, match="'nothing.yaml' does not exist"):
        data_utils.check_file("nothing.yaml")
    (tmp_path / "shapes.yaml").touch()
    assert data_utils.check_file("shapes.yaml") == "shapes.yaml"


def test_classification_folder_may_end_in_yaml(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set.yaml" / split / name).mkdir(parents=True)
            (tmp_path / "set.yaml" / split / name / "0.jpg").touch()
    assert data_utils.check_cls_dataset(tmp_path / "set.yaml")["nc"] == 2
