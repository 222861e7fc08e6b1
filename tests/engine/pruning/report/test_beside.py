# SPDX-License-Identifier: AGPL-3.0-or-later
"""A model of another run that is the better choice is found by what the runs have measured, and by nothing else."""

from __future__ import annotations

import copy
import json

import pytest

from ultralytics.engine.pruning.report.beside import advice_of, better_beside
from ultralytics.engine.pruning.report.table import remarks_of


def report_with(**rows: tuple[float, float, float]) -> dict:
    """Return a report of rows with a metric and milliseconds in PyTorch and ONNX Runtime, of which dense is one."""
    made = {
        name: {
            "weights": f"{name}.pt",
            "mAP50-95": metric,
            "pytorch_latency_p10_ms": pytorch,
            "onnx_latency_p10_ms": onnx,
        }
        for name, (metric, pytorch, onnx) in {"dense": (0.0, 99.0, 99.0), **rows}.items()
    }
    common = {"metric": "mAP50-95", "data": "cells.yaml", "imgsz": 320, "device": "cpu", "threads": 2}
    return {**common, "rows": made, "runtimes": {"pytorch": "2.14", "onnx": "1.32"}}


OWN = report_with(dense=(0.60, 9.0, 5.0), pruned=(0.10, 6.0, 3.0), **{"fine-tuned": (0.55, 6.0, 3.0)})


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Return a function that gives what is found beside the run once another run has written a report."""
    monkeypatch.chdir(tmp_path)
    for name in ("smaller.pt", "larger.pt"):
        (tmp_path / name).touch()

    def find(other: dict | str, own: dict = OWN, row: str = "fine-tuned", most: float = 0.55) -> dict | None:
        (tmp_path / "other").mkdir(exist_ok=True)
        text = other if isinstance(other, str) else json.dumps(other)
        (tmp_path / "other" / "report.json").write_text(text, encoding="utf-8")
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "report.json").write_text(json.dumps(own), encoding="utf-8")
        return better_beside(own, tmp_path / "own", row, most)

    return find


def test_a_report_of_another_task_is_passed_over(found, log):
    other = {"metric": "top1", "rows": {"dense": {"weights": "smaller.pt", "top1": 0.9}}}
    assert found(other) is None and not log.text
    assert found({**OWN, "rows": {"dense": {"weights": "smaller.pt", "mAP50-95": "0.9"}}}) is None
    assert "is no report with rows of mAP50-95" in log.text


def test_a_dense_model_that_is_no_slower_and_more_accurate(found):
    better = found(report_with(smaller=(0.58, 5.9, 3.0), larger=(0.63, 9.0, 5.0)))
    assert better == {
        "weights": "smaller.pt",
        "mAP50-95": 0.58,
        "ms": {"pytorch": 5.9, "onnx": 3.0},
        "instead_of": {"pytorch": 6.0, "onnx": 3.0},
    }
    assert advice_of(better, "mAP50-95") == (
        "take smaller.pt instead, as its run measured it: mAP50-95 0.580, 5.90 ms instead of 6.00 in PyTorch, 3.00 ms "
        "instead of 3.00 in ONNX Runtime"
    )


@pytest.mark.parametrize(
    "row",
    [(0.555, 5.0, 2.0), (0.70, 6.1, 2.0), (0.70, 5.0, 3.1)],
    ids=["hardly more accurate", "slower in PyTorch", "slower in ONNX Runtime"],
)
def test_none_that_is_not_better_in_every_way(found, row):
    assert found(report_with(smaller=row)) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("data", "coco.yaml"), ("imgsz", 640), ("device", "0"), ("threads", 1), ("metric", "mAP50"), ("runtimes", {})],
)
def test_figures_of_another_measurement_do_not_count(found, key, value):
    other = report_with(smaller=(0.70, 5.0, 2.0))
    assert found(other)
    for row in other["rows"].values():
        row["mAP50"] = 0.9
    assert found({**other, key: value}) is None


def test_a_runtime_that_one_of_them_lacks_does_not_count(found):
    other = report_with(smaller=(0.70, 5.0, 4.0))
    assert found(other) is None
    assert found({**other, "runtimes": {"pytorch": "2.14"}})["ms"] == {"pytorch": 5.0}
    assert found({**other, "interrupted": {"onnx": ["smaller"]}})["ms"] == {"pytorch": 5.0}


def test_own_models_do_not_count(found):
    own = copy.deepcopy(OWN)
    own["rows"]["dense"] |= {"pytorch_latency_p10_ms": 6.0, "onnx_latency_p10_ms": 3.0}
    assert found(own, own) is None


def test_a_model_that_is_gone_does_not_count(found, tmp_path):
    (tmp_path / "smaller.pt").unlink()
    assert found(report_with(smaller=(0.70, 5.0, 2.0))) is None


def test_a_broken_report_is_passed_over_and_said(found, log):
    assert found("{") is None
    assert "is not compared with" in log.text


def test_it_stands_among_the_remarks(found):
    better = found(report_with(smaller=(0.58, 5.9, 3.0)))
    (remark,) = remarks_of({**OWN, "better": better})
    assert remark.startswith("Of what has been measured beside this run, take smaller.pt instead")
    assert remarks_of({**OWN, "better": None}) == remarks_of(OWN) == []


def test_a_report_of_the_first_version_that_names_no_runtimes_is_compared_with_its_like(found):
    first = {key: value for key, value in OWN.items() if key not in {"runtimes", "threads"}}
    other = {
        key: value for key, value in report_with(smaller=(0.58, 5.9, 3.0)).items() if key not in {"runtimes", "threads"}
    }
    assert found(other, own=first)["weights"] == "smaller.pt"
    assert found(report_with(smaller=(0.58, 5.9, 3.0)), own=first) is None  # by whom it was timed is not known
