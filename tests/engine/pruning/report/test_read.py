# SPDX-License-Identifier: AGPL-3.0-or-later
"""A report that a checkpoint names may be any file: it is read with bounds on its size and types."""

import json

import pytest

from ultralytics.engine.pruning.report.read import LARGEST, read_report

ROW = {"weights": "best.pt", "mAP50": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "hello",
        "[1]",
        "{}",
        json.dumps({"rows": [ROW]}),
        json.dumps({"rows": {}}),
        json.dumps({"rows": {"pruned": ROW}}),
        json.dumps({"rows": {"dense": 1}}),
        json.dumps({"rows": {"dense": {**ROW, "weights": "/dev/zero"}}}),
        json.dumps({"rows": {"dense": {**ROW, "mAP50": "high"}}}),
        json.dumps({"rows": {"dense": ROW}, "max_det": "all"}),
    ],
)
def test_what_is_no_report_is_refused(content, tmp_path):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"report\.json' is no report"):
        read_report(tmp_path / "report.json", ["mAP50"])


def test_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "report.json", "wb") as f:
        f.truncate(LARGEST + 1)  # sparse: it takes no space
    with pytest.raises(ValueError, match="is no report: it has 67,108,865 bytes"):
        read_report(tmp_path / "report.json", ["mAP50"])


def test_report_is_read(tmp_path):
    report = {"rows": {"dense": ROW}, "max_det": 300}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path / "report.json", ["mAP50"]) == report
