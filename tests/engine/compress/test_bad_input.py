# SPDX-License-Identifier: AGPL-3.0-or-later
"""Wrong input gets one sentence that names the argument, before any folder is made and any step is trained."""

import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import CASES, SL_HYP, Case
from conftest import build_model
from torch.optim.optimizer import register_optimizer_step_pre_hook

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.checks.training import check_training
from ultralytics.models.yolo.classify.compress import ClassificationCompressor
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune, DetectionSparsifier
from ultralytics.models.yolo.pose.compress import PoseCompressor
from ultralytics.models.yolo.segment.compress import SegmentationCompressor
from ultralytics.nn.tasks import WorldModel
from ultralytics.utils import DEFAULT_CFG_DICT

REFUSALS = (SyntaxError, TypeError, ValueError, FileNotFoundError, ModuleNotFoundError)
ENTRIES = {
    "prune": lambda keys: DetectionCompressor(overrides=keys).compress(),
    "tune": lambda keys: DetectionFinetune(overrides=keys).train(),
    "sparsify": lambda keys: DetectionSparsifier(overrides=keys).train(),
    "segment": lambda keys: SegmentationCompressor(overrides=keys).compress(),
    "pose": lambda keys: PoseCompressor(overrides=keys).compress(),
    "classify": lambda keys: ClassificationCompressor(overrides=keys).compress(),
    "yolo": lambda keys: YOLO(keys["model"]).compress(**keys),
    "cli": lambda keys: ultralytics.cfg.entrypoint(f"yolo compress {keys['words']} project={keys['project']}"),
}
LATER = {"compile", "dis", "distill_model"}  # keys of training that not every Ultralytics has


class Trained(Exception):
    """A step was trained."""


class TooSlow(Exception):
    """The answer took too long."""


@pytest.fixture
def in_time():
    """Raise when an answer takes too long."""

    def stop(*_):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def bad_files(best_pt, tiny_data, tmp_path_factory):
    """A folder of files that are not what an argument asks for, and some that are."""
    folder = tmp_path_factory.mktemp("files")
    dense = torch.load(best_pt, weights_only=False)
    shutil.copy(best_pt, folder / "dense.pt")
    shutil.copy(best_pt, folder / "it's.pt")
    shutil.copy(best_pt, folder / "a?b.pt")
    for name in ("folder.pt", "empty_run", "empty_folder"):
        (folder / name).mkdir()
    (folder / "empty.pt").touch()
    (folder / "text.pt").write_text("hello")
    contents = {
        "list": [1],
        "tensor": torch.zeros(2),
        "dict": {"epoch": 1},
        "strings": {"model": "yolov8n"},
        "number": 1,
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(folder / "script.pt")
    for value in ("nan", "inf"):
        broken = torch.load(best_pt, weights_only=False)
        broken["model"].model[0].conv.weight.data[0, 0, 0, 0] = float(value)
        torch.save(broken, folder / f"{value}.pt")
    pruned = torch.load(DetectionCompressor(overrides=quick(best_pt, tiny_data, folder)).compress(), weights_only=False)
    torch.save(pruned, folder / "pruned.pt")
    pruned["model"].pruning["source"] = {"path": ["/dev/zero"], "sha256": "0"}
    torch.save(pruned, folder / "foreign.pt")
    pruned["model"].pruning["source"] = {}
    pruned["model"].model[0].conv.weight.data[0, 0, 0, 0] = math.nan
    torch.save(pruned, folder / "pruned_nan.pt")
    fused = YOLO(best_pt)
    fused.model.fuse(verbose=False)
    fused.save(folder / "fused.pt")
    others = {"other": "yolov8n-ghost", "classify": "yolov8n-cls"}
    models = {name: build_model(yaml) for name, yaml in others.items()}
    models["world"] = WorldModel("yolov8s-worldv2.yaml", nc=4, verbose=False)
    models["rtdetr"] = build_model("rtdetr-l")
    for name, model in models.items():
        torch.save(
            {**dense, "model": model, "train_args": {"task": name if name == "classify" else "detect"}},
            folder / f"{name}.pt",
        )
    (folder / "list.yaml").write_text("[1, 2]\n")
    (folder / "text.yaml").write_text("hello\n")
    (folder / "empty.yaml").write_text("")
    (folder / "broken.yaml").write_text("a: [1\nb: {")
    (folder / "other.yaml").write_text("a: 1\n")
    data = YAML.load(tiny_data)
    YAML.save(folder / "three.yaml", {**data, "names": {0: "a", 1: "b", 2: "c"}})
    YAML.save(folder / "no_images.yaml", {**data, "val": "nowhere"})
    for part, key in (("val", "val"), ("train", "train"), ("names", "names")):
        YAML.save(folder / f"no_{part}.yaml", {k: v for k, v in data.items() if k != key})
    for key, value in SL_HYP.items():
        YAML.save(folder / f"sl_{key}.yaml", {key: value})
    (folder / "damaged_run").mkdir()
    (folder / "damaged_run" / "stages.yaml").write_text("[1]\n")
    return folder


def quick(model, data, project):
    """Return arguments of a run that takes no time."""
    return {
        "model": model,
        "data": data,
        "project": str(project),
        "name": "ok-prune",
        "imgsz": 32,
        "batch": 4,
        "device": "cpu",
        "workers": 0,
        "plots": False,
        "prune_method": "lamp",
        "recalibrate": False,
        "round_to": 1,
        "speed_up": 1.5,
    }


@pytest.fixture
def no_step():
    """Raise when an optimizer makes a step."""

    def step(*_):
        raise Trained

    hook = register_optimizer_step_pre_hook(step)
    yield
    hook.remove()


def filled(value: Any, places: dict[str, str]) -> Any:
    """Return a value with the places in its strings."""
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(f"{{{name}}}", place)
    return value


def tree(*folders: Path) -> set[Path]:
    """Return all that lies in folders, but for Ultralytics' caches of labels."""
    return {path for folder in folders for path in folder.rglob("*") if path.suffix != ".cache"}


def test_the_table_is_long():
    assert len(CASES) >= 300


def name_of(case: Case) -> str:
    """Return a name for a test."""
    key, value = list(case.keys.items())[-1] if case.keys else ("", "")
    return f"{case.kind}-{case.entry}-{key}={value!r:.60}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_wrong_input_gets_one_sentence_before_work(case, settings, bad_files, tmp_path, no_step, in_time, monkeypatch):
    given = {*case.keys, *(word.partition("=")[0] for word in case.keys.get("words", "").split())}
    if lacking := LATER & given - DEFAULT_CFG_DICT.keys():
        pytest.skip(f"Ultralytics {ultralytics.__version__} has no {', '.join(lacking)}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    places = {"files": str(bad_files), "tiny": settings["data"], "dense": settings["model"]}
    keys = {"name": "x", **settings, **{k: filled(v, places) for k, v in case.keys.items()}}
    before = tree(tmp_path, bad_files)
    with pytest.raises(REFUSALS) as refused:
        ENTRIES[case.entry](keys)
    message = str(refused.value)
    missing = [word for word in case.words if word not in message]
    assert not missing, message
    assert tree(tmp_path, bad_files) == before
    assert len(message.splitlines()[0]) < 500, message


@pytest.mark.parametrize(
    "keys", [{"project": "../runs/prune"}, {"project": "剪枝/实验 1", "name": "模型 (2)"}, {"name": 3}]
)
def test_unusual_names_are_valid(keys):
    check_training(keys)


@pytest.mark.parametrize(
    "keys",
    [
        *({key: value} for key, value in (("epochs", 0), ("patience", -1), ("nbs", 0), ("seed", -1), ("seed", 1.5))),
        *({"fraction": 0}, {"fraction": True}, {"amp": "foo"}, {"split": 1}),
        *({key: None} for key in ("epochs", "lr0", "optimizer", "amp", "save", "box")),
    ],
    ids=str,
)
def test_what_newer_releases_of_ultralytics_refuse_is_refused_in_all(keys):
    with pytest.raises((TypeError, ValueError), match=f"'{next(iter(keys))}="):
        check_training(keys)
