# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every command and every piece of Python in the documents works: it is checked as it stands, and run on small data.

A block that can't be run says why in a comment above it: `<!-- not run: why -->`.
"""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from documents import ENGLISH, ROOT, find_blocks, find_commands, read_notebook

from ultralytics import YOLO, __version__
from ultralytics.cfg import check_dict_alignment, entrypoint, parse_key_value_pair
from ultralytics.cfg.compress.cli import LATENCY_KEYS
from ultralytics.cfg.compress.compat import TESTED
from ultralytics.cfg.compress.keys import check_names, is_file
from ultralytics.engine.compress.grid.cells import read_cells
from ultralytics.engine.pruning import Budget, prune_model, save_pruned
from ultralytics.engine.pruning.graph.layers import RULES
from ultralytics.nn.extra_modules.prunable import PRUNABLE_FORMS
from ultralytics.utils.checks import parse_version

pytestmark = pytest.mark.skipif(
    parse_version(__version__) < parse_version(TESTED[-1]),
    reason=f"the documents describe Ultralytics {TESTED[-1]}, and this is {__version__}",
)
BLOCKS = [block for document in ENGLISH for block in find_blocks(document)]  # translations have the same
SHELL = [(block, words) for block in BLOCKS if block.kind == "bash" for words in find_commands(block)]
PYTHON = [block.code for block in BLOCKS if block.kind == "python"]
SMALL = {"imgsz": 32, "epochs": 1, "batch": 4, "workers": 0, "device": "cpu", "plots": False}
HERE = {  # what the tests' folder has in place of what a command names
    "data": "data.yaml",
    "runtime": "onnx",
    "deploy": "onnx-int8",
    "sl_epochs": 1,
}
TESTED = {  # other commands: the tests that run them
    "pip install": "test_install.py",
    "python3 -m venv": "test_install.py",
    ". .venv/bin/activate": "test_install.py",
    "python compress.py": "engine/compress/test_compressor.py",
    "pytest": "",  # this is it
    "pre-commit install": "",
    "python benchmarks/": "benchmarks/test_benchmark_scripts.py",
    "python -m ultralytics_compress_drop_in": "cfg/compress/test_drop_in.py",
    "python ultralytics/cfg/compress/startup/ultralytics_compress_drop_in.py": "cfg/compress/test_drop_in.py",
    "python3 measure.py": "docs/test_commands.py",
}


def arguments_of(words):
    """Return the arguments of a `yolo` command."""
    return dict(parse_key_value_pair(word) for word in words[2:])


def name_of(values):
    """Return a short name of a test."""
    return " ".join(values[1])[:90] if isinstance(values, tuple) else None


def shrink(arguments):
    """Return arguments of a run on the small data; a target in figures of a full model becomes a small ratio."""
    small = {**arguments, **SMALL}
    small.update((key, value) for key, value in HERE.items() if key in arguments)
    several = str(small["model"]).startswith("[")
    if several:
        small |= {"model": "[best.pt,other.pt]", "seed": [0]}
    elif not str(small["model"]).endswith(".yaml"):
        small["model"] = "best.pt"
    if isinstance(small.get("speed_up"), list):
        small["speed_up"] = small["speed_up"][: 1 if several else 2]
    if "target" in small:
        del small["target"]
        small["speed_up"] = 1.1
    if small.get("budget") in {"onnx", "openvino", "ncnn", "mnn", "litert", "pytorch"}:
        small["budget"] = "onnx"
        if isinstance(small.get("speed_up"), float):
            small["speed_up"] = 1.02  # which a machine that does other work can reach at so few pixels
    return small


YOLO_COMMANDS = [(block, words) for block, words in SHELL if words[0] == "yolo" and len(words) > 2]
COMPRESS = [arguments_of(words) for block, words in YOLO_COMMANDS if words[1] == "compress"]
DISTINCT = {  # commands that differ on the small data: the first of each
    repr((words[1], sorted({**shrink(arguments_of(words)), "name": ""}.items(), key=str))): (block, words)
    for block, words in reversed(YOLO_COMMANDS)
    if words[1] != "latency" and not block.why
}


@pytest.mark.parametrize("command", SHELL, ids=name_of)
def test_commands_are_run_by_some_test(command):
    block, words = command
    text = " ".join(words)
    if words[0] == "yolo" or block.why:
        return
    (test,) = {test for beginning, test in TESTED.items() if text.startswith(beginning)}
    assert not test or (ROOT / "tests" / test).is_file()


@pytest.mark.parametrize("arguments", COMPRESS, ids=str)
def test_arguments_of_compress_are_valid(arguments):
    from ultralytics.engine.compress.deploy.targets import read_targets  # older releases lack what it stands on

    check_names(arguments)
    assert read_cells(arguments)  # one for a run that is no sweep
    read_targets(arguments.get("deploy"))


def test_options_of_scripts_exist():
    for block, words in SHELL:
        if words[:1] == ["python"] and not block.why and words[1].startswith("benchmarks/"):
            script = (ROOT / words[1]).read_text(encoding="utf-8")
            shared = (ROOT / "benchmarks/experiment.py").read_text(encoding="utf-8")
            unknown = [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in script + shared]
            assert unknown == [], words
        extras = re.findall(r"\[(.+?)\]", " ".join(words)) if words[:2] == ["pip", "install"] else []
        for extra in ",".join(extras).split(","):
            assert not extra or f'"{extra}": [' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.fixture
def folder(best_pt, tiny_data, tmp_path, monkeypatch, request):
    """A folder with the files that the documents name; blocks of one's own that they register are forgotten again."""
    for table in (PRUNABLE_FORMS, RULES):
        known = dict(table)
        request.addfinalizer(lambda table=table, known=known: (table.clear(), table.update(known)))
    for name in ("best.pt", "other.pt"):
        shutil.copy(best_pt, tmp_path / name)
    shutil.copy(tiny_data, tmp_path / "data.yaml")
    model = YOLO(best_pt)
    model.ckpt_path = str(tmp_path / "best.pt")
    pruned, record = prune_model(model.model, Budget(speed_up=1.5), prune_method="lamp")
    save_pruned(tmp_path / "prune.pt", pruned, record)
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((64, 64, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(mode, arguments):
    """Run a `yolo` command."""
    words = [f"{key}={value}".replace(" ", "") for key, value in arguments.items()]
    entrypoint(f"yolo {mode} {' '.join(words)}")


@pytest.mark.slow
@pytest.mark.parametrize("command", DISTINCT.values(), ids=name_of)
def test_commands_run(command, folder):
    mode, arguments = command[1][1], arguments_of(command[1])
    if "onnx" in str(arguments) or arguments.get("budget") or arguments.get("deploy"):
        pytest.importorskip("onnxruntime")
    small = {**shrink(arguments), "project": str(folder / "runs")}
    if is_file(str(small.get("budget"))):
        answer_of_a_device(folder)
    if mode == "export":
        small = {key: value for key, value in small.items() if key in {"model", "format", "imgsz", "device"}}
    run(mode, small)
    assert any((folder / "runs").rglob("best.pt")) or any(folder.glob("best*.onnx"))


def answer_of_a_device(folder):
    """Measure a bundle, as the documents say, and leave its answer in the folder."""
    command = next(words for _, words in YOLO_COMMANDS if words[1] == "latency")
    arguments = arguments_of(command)
    check_dict_alignment(dict.fromkeys(LATENCY_KEYS), arguments)
    small = {**arguments, "model": "best.pt", "runtime": "onnx", "imgsz": 32, "project": str(folder), "name": "bundle"}
    run("latency", small)
    measure = [sys.executable, "measure.py", "--anyway"]  # another process may disturb it
    subprocess.run(measure, cwd=folder / "bundle", check=True, capture_output=True)
    shutil.copy(folder / "bundle/answer.json", folder)


def shrink_code(code, folder):
    """Return Python with the settings of the small data."""
    for key, value in SMALL.items():
        code = re.sub(rf'(?<!\w)({key}=|"{key}": )("[^"]*"|[\w.]+)', rf"\g<1>{value!r}", code)
    for name in ("data.yaml", "shapes.yaml"):
        for form in (f'data="{name}"', f'"data": "{name}"'):
            missing = [key for key in (*SMALL, "project") if not re.search(rf'\b{key}=|"{key}": ', code)]
            pairs = {**SMALL, "project": str(folder / "runs")}
            added = "".join(
                f', "{key}": {pairs[key]!r}' if ":" in form else f", {key}={pairs[key]!r}" for key in missing
            )
            code = code.replace(form, form.replace(name, str(folder / "data.yaml")) + added)
    return code


@pytest.mark.parametrize(
    "code", [pytest.param(c, marks=pytest.mark.slow if "data" in c or "model.onnx" in c else []) for c in PYTHON]
)
def test_python_runs(code, folder):
    if "onnx" in code:
        pytest.importorskip("onnxruntime")
        shutil.copy(YOLO("prune.pt").export(format="onnx", imgsz=32), "model.onnx")
    (folder / "block.py").write_text(shrink_code(code, folder), encoding="utf-8")
    runpy.run_path(str(folder / "block.py"))


@pytest.mark.slow
def test_the_notebook_runs(folder):
    pytest.importorskip("onnxruntime")
    (folder / "cells.py").write_text(shrink_code("\n".join(read_notebook()), folder), encoding="utf-8")
    runpy.run_path(str(folder / "cells.py"))
    assert [file.name for file in Path(folder / "runs").rglob("*_int8.onnx")]
