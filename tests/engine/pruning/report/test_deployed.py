# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which file of a deploy stage is proposed, and what the report says of the others."""

import pytest

from ultralytics.engine.pruning.report.deploy_plot import draw_deployed
from ultralytics.engine.pruning.report.deployed import (
    deployed_details,
    deployed_remarks,
    deployed_summary,
    deployed_table,
    file_to_deploy,
)

METRIC = "mAP50-95"


def row(model, target, ms, accuracy, ratio=None, error=None, quantised=None):
    form, _, precision = target.partition("-")
    return {
        "model": model,
        "target": target,
        "float_target": form,
        "format": form,
        "label": form.upper(),
        "quantize": 8 if precision else None,
        "quantised": quantised if quantised is not None else "calibrated" if precision else "",
        "in_float": 0.0,
        "file": f"{model}.{target}",
        "size_mb": 0.9,
        METRIC: accuracy,
        "agreement": 0.98,
        "p10_ms": ms,
        "p50_ms": ms,
        "ratio": ratio,
        "threads": 1,
        "precision": "f32",
        "error": error,
        "classes": {},
    }


@pytest.fixture
def report():
    rows = [
        row("dense", "onnx", 10.0, 0.500),
        row("fine-tuned", "onnx", 5.0, 0.505, 2.0),
        row("dense", "onnx-int8", 7.0, 0.480, 1.4),
        row("fine-tuned", "onnx-int8", 2.5, 0.497, 4.0),
    ]
    found = {"rows": rows, "int8_drop": 0.01, "classes": [], "differences": [], "picture": None}
    return {"metric": METRIC, "deploy": found}


def test_the_fastest_file_that_quantisation_has_left_accurate_is_proposed(report):
    rows = report["deploy"]["rows"]
    assert file_to_deploy(rows, METRIC, 0.01) is rows[3]
    assert file_to_deploy(rows, METRIC, 0.005) is rows[1]
    assert deployed_summary(report) == (
        "Deploy fine-tuned.onnx-int8: 4.0x faster than the dense model in float in ONNX, -0.3 points mAP50-95, "
        "0.90 MB (pruned + INT8)"
    )


def test_files_that_were_timed_beside_other_work_are_remarked(report):
    rows = report["deploy"]["rows"]
    rows[3] |= {"p10_ms": 6.0, "interrupted": True}
    first, *others = deployed_remarks(report)
    assert first.startswith(
        "Other work had the CPU during nearly all runs of pruned + INT8 in ONNX: they took too long"
    )
    assert not any("no faster" in remark for remark in others)


def test_int8_that_gains_nothing_or_costs_much_is_remarked(report):
    rows = report["deploy"]["rows"]
    rows[3] |= {"p10_ms": 6.0}
    slow, costly = deployed_remarks(report)[::-1]
    assert slow == (
        "pruned + INT8 in ONNX is no faster than the same model in float on this machine: 6.00 ms against 5.00 ms."
    )
    assert costly.startswith("INT8 in ONNX loses 0.0200 mAP50-95 against the same model in float")
    assert file_to_deploy(rows, METRIC, 0.01) is rows[1]


def test_failures_are_rows_and_remarks(report):
    report["deploy"]["rows"].append(row("dense", "ncnn", None, None, error="AssertionError: not supported"))
    assert "dense to ncnn failed: AssertionError: not supported" in deployed_remarks(report)
    assert deployed_table(report)[-1][-1] == "AssertionError: not supported"


def test_nothing_is_proposed_if_no_file_was_made(report):
    for each in report["deploy"]["rows"]:
        each["error"] = "RuntimeError: no"
    assert deployed_summary(report) == ""


def test_the_table_names_what_was_done_and_the_front(report):
    heads, *lines = deployed_table(report)
    assert len({len(line) for line in [heads, *lines]}) == 1
    assert [line[0] for line in lines] == ["dense", "pruned", "INT8", "pruned + INT8"]
    assert [line[heads.index("best at its")] for line in lines] == ["", "ms, size", "", "ms"]


def test_a_file_with_trained_ranges_is_named_so(report):
    report["deploy"]["rows"][3]["quantised"] = "trained"
    assert deployed_table(report)[-1][0] == "pruned + QAT"


def test_a_trained_file_beside_the_calibrated_one_is_judged_by_the_same_float_file(report):
    rows = report["deploy"]["rows"]
    rows.append(row("quantised", "onnx-int8", 2.4, 0.500, 4.2, quantised="trained"))
    assert [line[0] for line in deployed_table(report)[-2:]] == ["pruned + INT8", "pruned + QAT"]
    assert file_to_deploy(rows, METRIC, 0.006) is rows[4]
    rows[4] |= {"quantised": "recalibrated", METRIC: 0.400}
    assert deployed_table(report)[-1][0] == "pruned + QAT, calibrated"
    assert file_to_deploy(rows, METRIC, 0.01) is rows[3]
    assert deployed_remarks(report)[-1].startswith("pruned + QAT, calibrated in ONNX loses 0.1050 mAP50-95")


def test_a_quantization_aware_training_is_advised_to_who_has_none(report):
    rows = report["deploy"]["rows"]
    rows[3] |= {METRIC: 0.400}
    dense, pruned = deployed_remarks(report)
    assert dense.endswith("it is not proposed.")
    assert pruned.endswith("it is not proposed. A quantization-aware training may get it back: 'qat_epochs'.")


def test_layers_that_stayed_in_float_are_told(report):
    report["deploy"]["rows"][3]["in_float"] = 0.25
    assert deployed_table(report)[-1][0] == "pruned + INT8 (25% of its layers float)"


def test_losses_are_told_by_class_and_by_picture(report):
    report["deploy"]["classes"] = [{"class": "star", "dense": 0.5, "deployed": 0.4, "loss": 0.1}]
    report["deploy"]["differences"] = [{"picture": "/a/7.png", "dense": 3, "deployed": 2, "alone": 1}]
    classes, pictures = deployed_details(report).values()
    assert classes[1] == ["star", "0.5000", "0.4000", "0.1000"]
    assert pictures[1] == ["7.png", "3", "2", "1"]


def test_the_picture_shows_every_file_that_was_measured(report, tmp_path):
    draw_deployed(report, tmp_path / "deploy.png")
    assert (tmp_path / "deploy.png").stat().st_size > 10_000
