# SPDX-License-Identifier: AGPL-3.0-or-later
"""Installed and unused, this package changes nothing: Ultralytics beside it does what Ultralytics alone does."""

import inspect
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import NEEDS, no_argument
from environments import Environment

from ultralytics import __version__
from ultralytics.utils import DEFAULT_CFG_DICT, set_logging

PROBE = Path(__file__).with_name("differential_probe.py")


def probe(environment, folder, function, *arguments):
    """Return what a function of the probe finds in an environment."""
    file = folder / f"{environment.folder.name}-{function}.json"
    environment.run(environment.scripts / "python", PROBE, function, *arguments, file, cwd=folder, OMP_NUM_THREADS="1")
    return json.loads(file.read_text())


@pytest.fixture
def both(stock, installed, tmp_path):
    """Return what finds something in both environments, stock's first."""

    def find(function, *arguments):
        return [probe(environment, tmp_path, function, *arguments) for environment in (stock, installed)]

    return find


def test_tables_of_keys_are_the_same(both):
    alone, beside = both("keys")
    beside["modes"].remove("compress")
    assert alone == beside and len(alone) > (8 if "CFG_STR_KEYS" in alone else 7)


def test_every_value_of_every_key_is_taken_or_refused_alike(both):
    alone, beside = both("values")
    assert len(alone["found"]) > 3000
    assert {k: (v, beside["found"][k]) for k, v in alone["found"].items() if v != beside["found"][k]} == {}
    assert alone["left"] == beside["left"]


def test_commands_arrive_alike(both):
    alone, beside = both("commands")
    for command, outcome in alone.items():
        assert beside[command] == outcome, command
    assert re.search(f"SyntaxError: {no_argument('speed_up')}", alone["val model=yolov8n.yaml speed_up=7"])
    if "quantize" in DEFAULT_CFG_DICT:
        assert "('quantize', 8)" in alone["export model=yolov8n.yaml format=onnx quantize=int8"]
    if NEEDS["checks of strings, None and whole floats"]:
        assert "('max_det', 100)" in alone["val model=yolov8n.yaml max_det=1e2"]


@pytest.mark.slow
def test_trainings_are_equal_and_resumed_from_either_side(stock, installed, tiny_data, tmp_path):
    whole, stopped, resumed = {}, {}, {}
    for name, environment in (("alone", stock), ("beside", installed)):
        project = tmp_path / name
        whole[name] = probe(environment, tmp_path, "train", tiny_data, project, "whole", "")
        stopped[name] = probe(environment, tmp_path, "train", tiny_data, project, "stopped", "stop")
        shutil.copytree(project / "stopped", project / "kept")
    assert whole["alone"] == whole["beside"] and stopped["alone"] == stopped["beside"]
    for begun in ("alone", "beside"):
        for name, environment in (("alone", stock), ("beside", installed)):
            run = tmp_path / begun / "stopped"
            shutil.rmtree(run)
            shutil.copytree(tmp_path / begun / "kept", run)
            resumed[begun, name] = probe(environment, tmp_path, "resume", run)
    first = resumed["alone", "alone"]
    assert all(other == first for other in resumed.values())
    assert first["last.pt"][2] != stopped["alone"]["last.pt"][2]  # it did go on
    again = [probe(stock, tmp_path, "again", tmp_path / "beside" / "whole", "a")]
    again.append(probe(installed, tmp_path, "again", tmp_path / "alone" / "whole", "a"))
    assert again[0] == again[1] and again[0]["last.pt"] == whole["alone"]["last.pt"]


@pytest.mark.slow
def test_exports_are_equal(both, best_pt, tiny_data, tmp_path):
    alone, beside = both("export", best_pt, tiny_data, tmp_path)
    assert alone == beside
    assert alone["None"] == alone["32"] and "'quantize=int4' is invalid" in alone["int4"]


@pytest.mark.slow
def test_benchmarks_are_equal(both, best_pt, tiny_data):
    alone, beside = both("benchmark", best_pt, tiny_data)
    assert alone == beside and len(alone["rows"]) == 1


@pytest.mark.slow
def test_tuning_is_equal(stock, installed, best_pt, tiny_data, tmp_path):
    found = []
    for name, environment in (("alone", stock), ("beside", installed)):
        found.append(probe(environment, tmp_path, "tune", best_pt, tiny_data, tmp_path / name))
    assert found[0] == found[1] and "tune_results.ndjson" in found[0]["files"]


@pytest.fixture(scope="session")
def other_ultralytics(borrowed, ultralytics_wheel, project, tmp_path_factory):
    """Return an environment whose Ultralytics is changed by the tests."""
    environment = Environment(tmp_path_factory.mktemp("other"), borrowed, ultralytics_wheel)
    environment.install(project)
    return environment


CHANGES = {
    "old": ("__init__.py", f'"{__version__}"', '"8.2.103"', "8.2.103 is older than 8.3.0"),
    "renamed": ("cfg/__init__.py", "CLI_HELP_MSG", "CLI_HELP", "has no ultralytics.cfg.CLI_HELP_MSG"),
    "mode": ("cfg/__init__.py", '"track", ', '"track", "compress", ', "has 'compress' of its own"),
    "key": ("cfg/default.yaml", "task: detect", "speed_up: 1.5\ntask: detect", "has 'speed_up' of its own"),
    "method": (
        "engine/model.py",
        "    def benchmark(",
        "    def compress(self):\n        pass\n\n    def benchmark(",
        "has a method Model.compress of its own",
    ),
    "trainer": (
        "models/yolo/obb/train.py",
        "def get_model",
        "def build_model",
        "has no ultralytics.models.yolo.obb.train.OBBTrainer.get_model",
    ),
    "used": (
        "data/utils.py",
        "check_det_dataset",
        "check_box_dataset",
        "has no ultralytics.data.utils.check_det_dataset",
    ),
}
LOOK = """
import sys
from ultralytics import YOLO, cfg
from ultralytics.models.yolo.obb import OBBTrainer
assert YOLO('yolov8n.yaml').task == 'detect'
from ultralytics.cfg.compress import activation
from ultralytics.data import utils
from ultralytics.engine import trainer
assert not activation.replaced
assert not hasattr(cfg.entrypoint, '__wrapped__') and not hasattr(utils.check_cls_dataset, '__wrapped__')
assert not hasattr(trainer.check_cls_dataset, '__wrapped__') and not hasattr(OBBTrainer.train, '__wrapped__')
assert getattr(YOLO, 'compress', None) is None or YOLO.compress.__module__ == 'ultralytics.engine.model'
try:
    import ultralytics.models.yolo.detect.compress
except ImportError as error:
    assert str(error) == activation.failure, error
else:
    raise AssertionError
"""


@pytest.mark.parametrize("change", CHANGES)
def test_other_ultralytics_is_left_whole_with_one_warning(other_ultralytics, change):
    name, old, new, reason = CHANGES[change]
    folder = other_ultralytics.site_packages / "ultralytics"
    users = [folder / name] if change != "used" else [*folder.rglob("*.py")]
    before = {file: file.read_text(encoding="utf-8") for file in users if "compress" not in file.parts}
    assert old in before[folder / name]
    try:
        for file, text in before.items():
            file.write_text(text.replace(old, new), encoding="utf-8")
        python = other_ultralytics.scripts / "python"
        process = other_ultralytics.run(python, "-c", LOOK, YOLO_VERBOSE="true")
    finally:
        for file, text in before.items():
            file.write_text(text, encoding="utf-8")
    log = process.stdout + process.stderr
    assert log.count("is off: Ultralytics") == 1 and reason in log
    assert log.count("WARNING") == ("PrefixFormatter" in inspect.getsource(set_logging))  # names the level of a line
