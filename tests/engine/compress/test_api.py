# SPDX-License-Identifier: AGPL-3.0-or-later
"""The typed entry point offers the keys of the compress mode, with their defaults, types and choices."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from ultralytics import YOLO
from ultralytics.cfg import compress as cfg_room
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.names import SWEEPABLE
from ultralytics.engine.compress import compress
from ultralytics.engine.compress.api import method_signature
from ultralytics.engine.model import Model
from ultralytics.engine.pruning.budget.costs import COSTS
from ultralytics.engine.pruning.budget.weights import PRECISIONS
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.trainer import BaseTrainer

KEYS_FILE = Path(cfg_room.__file__).with_name("compress_keys.yaml")
KEYS = YAML.load(KEYS_FILE)
PARAMETERS = inspect.signature(compress).parameters
HINTS = get_type_hints(compress, localns={"Model": Model})
CHOICES = {
    "prune_method": set(METHODS),
    "budget": set(COSTS),
    "precision": set(PRECISIONS),
    "reg_decay_type": {"constant", "linear", "step"},
}


def documented_types():
    """Return what the keys' file says of each key's type: the key to "float", "str, optional" and so on."""
    rows = re.findall(r"^(\w+):.*? # \((.+?)\)", KEYS_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [key for key, _ in rows] == list(KEYS)
    return dict(rows)


def test_parameters_are_the_keys_in_their_order():
    assert list(PARAMETERS) == ["model", "data", *KEYS, "training"]
    assert all(PARAMETERS[key].kind is inspect.Parameter.KEYWORD_ONLY for key in ("data", *KEYS))


def test_defaults_are_those_of_the_keys_file():
    assert {key: PARAMETERS[key].default for key in KEYS} == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_types_are_those_of_the_keys_file(key):
    name, *optional = documented_types()[key].split(", ")
    kinds = set(get_args(HINTS[key])) if get_origin(HINTS[key]) not in {None, Literal} else {HINTS[key]}
    assert (type(None) in kinds) == (optional == ["optional"])
    several = {kind for kind in kinds if get_origin(kind) is get_origin(Sequence[str])}
    assert bool(several) == (key in SWEEPABLE or key == "deploy")
    kinds -= {type(None), Path, *several}  # a path for a str
    if key in CHOICES:
        assert name == "str"
        assert {choice for kind in kinds for choice in get_args(kind)} == CHOICES[key]
    else:
        assert [kind.__name__ for kind in kinds] == [name]


def test_docstring_explains_every_parameter():
    explained = re.findall(r"^ {4}\*{0,2}(\w+) \(.+?\): ", inspect.getdoc(compress), re.MULTILINE)  # 3.13 dedents it
    assert explained == list(PARAMETERS)


def test_method_has_the_same_keys_and_no_required_one():
    parameters = method_signature().parameters
    assert list(parameters) == ["self", "compressor", *list(PARAMETERS)[1:]]
    assert parameters["data"].default is None
    assert all(parameters[key] == PARAMETERS[key] for key in KEYS)
    assert inspect.signature(YOLO.compress) == method_signature()


def test_importing_it_imports_neither_torch_pruning_nor_the_runs():
    code = "import sys; from ultralytics.engine.compress import compress; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch_pruning" not in modules
    assert "ultralytics.engine.compress.mode" not in modules


def test_a_configuration_file_is_refused():
    with pytest.raises(ValueError, match=r"'cfg=run\.yaml' is not an argument of compress\(\)"):
        compress("best.pt", data="coco8.yaml", cfg="run.yaml")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "'model=None' is of invalid type NoneType. 'model' must be a trained .pt file, a .yaml file"),
        (["yolov8n.yaml", YOLO("yolov8n.yaml")], "'model' has a YOLO among several. Name each by its file"),
    ],
)
def test_models_of_other_types_are_refused(model, message):
    with pytest.raises(TypeError, match=message):
        compress(model, data="coco8.yaml")


@pytest.mark.parametrize("compressor", [5, YOLO, BaseTrainer])
def test_other_compressors_are_refused(compressor):
    with pytest.raises(TypeError, match="'compressor=.*' is invalid. 'compressor' must be a subclass of a task's"):
        YOLO("yolov8n.yaml").compress(compressor=compressor, data="coco8.yaml")


def test_what_is_no_model_is_refused_as_on_the_command_line(settings, tmp_path):
    (file := tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=f"'model={file}' is no checkpoint of an Ultralytics model"):
        compress(**{**settings, "model": file})


def test_unknown_keys_are_refused_before_any_folder(settings, tmp_path):
    with pytest.raises(SyntaxError, match="speedup"):
        compress(**settings, speedup=3.0)
    assert not any(tmp_path.iterdir())


def test_it_does_what_the_method_does(settings, tmp_path, log):
    model = YOLO(file := settings.pop("model"))
    run: dict[str, Any] = {**settings, "data": Path(settings["data"]), "epochs": 1, "distill": False}
    report = compress(model, prune_method="lamp", name="typed", **run)
    (written,) = tmp_path.rglob("typed-finetune/report.json")
    assert report == json.loads(written.read_text(encoding="utf-8"))
    assert Path(model.ckpt_path).parts[-3:] == ("typed-finetune", "weights", "best.pt")
    log.clear()
    compress(file, name="typed", resume=True, data=run["data"], project=run["project"])
    assert "stage 'finetune' is complete" in log.text and "resume ignores" not in log.text
