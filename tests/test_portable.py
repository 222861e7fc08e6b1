# SPDX-License-Identifier: AGPL-3.0-or-later
"""What differs between systems: the encoding of text, the way that processes start, and paths."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FAST, draw_squares

from ultralytics import YOLO
from ultralytics.engine.compress.checks.sparsity import sl_hyperparameters
from ultralytics.engine.pruning.checkpoint.marks import is_pruned

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ultralytics", "benchmarks", "compress.py", "setup.py")


def list_sources():
    """List the Python files of the checkout."""
    return [f for name in FOLDERS for f in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*.py"))]


def is_binary(node):
    """Return True for a call of `open` with a binary mode."""
    modes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


def opens_text_without_encoding(node):
    """Return True for a call that reads or writes text in whatever encoding the system has, i.e. GBK."""
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
    keywords = {keyword.arg for keyword in node.keywords}
    if name not in {"open", "read_text", "write_text"} or "encoding" in keywords or None in keywords:
        return False
    if name != "open":
        return len(node.args) <= (name == "write_text")
    if isinstance(node.func, ast.Attribute):  # a path's takes the mode first; others open archives, runtimes and such
        is_path = all(isinstance(argument, ast.Constant) for argument in node.args) and not keywords - {"mode"}
        return is_path and getattr(node.func.value, "id", "") not in {"tarfile", "os"} and not is_binary(node)
    return not is_binary(node)


def find(predicate):
    """List the places in the sources where a predicate holds."""
    return [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in list_sources()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if predicate(node)
    ]


def test_text_has_an_encoding():
    assert find(opens_text_without_encoding) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("open(file)", True),
        ("open(file, 'w')", True),
        ("file.open('w')", True),
        ("file.read_text()", True),
        ("file.write_text(text)", True),
        ("open(file, 'rb')", False),
        ("file.open('wb')", False),
        ("file.open(mode='w')", True),
        ("tarfile.open(fileobj=file, mode='w')", False),
        ("runtime.open(file, shape)", False),
        ("file.open(mode='rb')", False),
        ("file.read_text(encoding='utf-8')", False),
        ("file.write_text(text, 'utf-8')", False),
        ("open(file, encoding='utf-8')", False),
        ("file.read_bytes()", False),
    ],
)
def test_the_search_finds_it(text, found):
    assert opens_text_without_encoding(ast.parse(text, mode="eval").body) is found


def test_a_whole_run_below_a_folder_with_chinese_letters_and_spaces(best_pt, tmp_path, monkeypatch):
    root = (
        tmp_path
        / "中文 目录"
        / ("长" * 60 if os.name != "nt" else "长")
        / ("long" * 40 if os.name != "nt" else "short")
    )
    root.mkdir(parents=True)
    draw_squares(root / "数据")
    model = root / "模型.pt"
    model.write_bytes(Path(best_pt).read_bytes())
    monkeypatch.chdir(root)
    settings = {**FAST, "data": str(root / "数据" / "tiny.yaml"), "project": str(root / "运行"), "name": "剪枝 甲"}
    YOLO(model).compress(**{**settings, "epochs": 1, "plots": True})
    for name in ("剪枝 甲-prune/weights/prune.pt", "剪枝 甲-finetune/weights/best.pt"):
        assert is_pruned(YOLO(root / "运行" / name).model)
    report = (root / "运行" / "剪枝 甲-finetune" / "report.html").read_text(encoding="utf-8")
    assert "剪枝 甲-finetune" in report and "data:image/png;base64" in report


SPAWN = """
import multiprocessing
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    prune_pt = DetectionCompressor(overrides={overrides!r}).compress()
    finetune = {{**{overrides!r}, "model": prune_pt, "name": "finetune"}}
    DetectionFinetune(overrides=finetune).train()
"""


@pytest.mark.slow
def test_workers_that_are_spawned_get_what_they_need(best_pt, tiny_data, tmp_path):
    """As on Windows and macOS, where a worker begins as a fresh process and is sent all that it uses."""
    keys = {"model": best_pt, "data": tiny_data, "project": str(tmp_path), "name": "spawn", "epochs": 1, "workers": 1}
    script = tmp_path / "script.py"
    script.write_text(SPAWN.format(overrides={**FAST, **keys, "prune_method": "group_taylor"}), encoding="utf-8")
    process = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "finetune" / "weights" / "best.pt").is_file()


def test_the_path_of_a_windows_script_finds_the_hyperparameters():
    assert sl_hyperparameters(r"ultralytics\cfg\hyp.scratch.sl.yaml") == sl_hyperparameters(None)
