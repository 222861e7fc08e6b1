# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs that are killed at their file operations, one after the other, and resumed: see `crash_probe.py`."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import FAST, ROOT, save_dense

from ultralytics import YOLO
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.utils import LOGGER

FEW_LAYERS = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[3, 4], 1, Detect, [nc]]
"""
KEYS = {**FAST, "epochs": 1, "speed_up": 1.5, "round_to": 4, "prune_batches": 2, "verbose": False}
PIPELINES = {  # name: keys; a training has one epoch where weights that come after it are compared
    "base": {"prune_method": "lamp"},
    "slim": {"prune_method": "slim", "sl_epochs": 1},
    "growing_reg": {"prune_method": "growing_reg", "sl_epochs": 1},
    "sensitivity": {"prune_method": "lamp", "sensitivity": True, "sensitivity_drop": 0.5},
    "sweep": {"speed_up": [1.5, 2.0]},
    "budget": {"iterative_steps": 2, "epochs": 2, "plots": True},
}


@pytest.fixture
def crash(tiny_data, tmp_path):
    """Return what kills and resumes pipelines, and returns a row per kill."""
    architecture, dense, work = tmp_path / "few.yaml", tmp_path / "few.pt", tmp_path / "wörk"
    work.mkdir()
    architecture.write_text(FEW_LAYERS)
    torch.manual_seed(0)
    yolo = YOLO(architecture, task="detect")
    enliven(yolo.model, yolo.model.predict)
    save_dense(yolo, dense)

    def crash(kills):
        model = {name: str(architecture if name == "base" else dense) for name in kills}
        tasks = [
            {"name": name, "kills": n, "keys": {**KEYS, "data": tiny_data, "model": model[name], **PIPELINES[name]}}
            for name, n in kills.items()
        ]
        (tmp_path / "tasks.json").write_text(json.dumps(tasks))
        command = [sys.executable, ROOT / "tests/crash_probe.py", work, tmp_path / "tasks.json", tmp_path / "rows.json"]
        process = subprocess.run(command, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr[-3000:]
        return json.loads((tmp_path / "rows.json").read_text())

    return crash


def check(rows):
    """Log a line per pipeline; each kill must have been survived."""
    LOGGER.info(f"{'pipeline':>12}{'kills':>12}{'resumed':>12}{'identical':>12}")
    for name in dict.fromkeys(row["pipeline"] for row in rows):
        own = [row for row in rows if row["pipeline"] == name]
        counts = (len(own), sum(row["resumed"] for row in own), sum(row.get("different") == [] for row in own))
        LOGGER.info(f"{name:>12}" + "".join(f"{count:>12}" for count in counts))
    assert all(row["killed"] for row in rows)
    assert not [row for row in rows if row.get("different") != []]


def test_killed_run_resumes_to_what_an_undisturbed_one_gives(crash, log):
    check(crash({"base": 3}))


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(11, marks=pytest.mark.long)])
def test_runs_of_every_kind_resume_from_everywhere(crash, log, kills):
    rows = crash(dict.fromkeys(PIPELINES, kills))
    assert len(rows) >= 0.9 * kills * len(PIPELINES)
    check(rows)
