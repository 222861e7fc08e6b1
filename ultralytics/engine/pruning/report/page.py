# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report as one HTML page that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # torch requires jinja2 as well

from ultralytics.engine.pruning.report.course import course_of
from ultralytics.engine.pruning.report.deployed import (
    deployed_details,
    deployed_remarks,
    deployed_summary,
    deployed_table,
)
from ultralytics.engine.pruning.report.table import (
    conditions_of,
    deployed,
    export_command,
    no_gain,
    releases_of,
    remarks_of,
    spreads_of,
    summary_of,
    table_of,
    whole_of,
)

WHAT = ("channels", "GFLOPs", "parameters")  # columns of the table of layers
EXPLAINED = {  # in the package's repository, which is at no address that a page could link to
    "docs/modes/compress.md": "what the parts of this page are",
    "docs/targets.md": "what to change if too much accuracy was lost",
    "docs/deploy.md": "how to get from here to a file for a device",
}
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)


def report_page(report: dict[str, Any], pictures: dict[str, Path]) -> str:
    """Return the report as HTML.

    Args:
        report (dict): What `build_report` returned.
        pictures (dict[str, Path]): Title to PNG file; the page holds the pictures themselves.

    Returns:
        (str): The page.
    """
    return TEMPLATES.get_template("page.html").render(
        summary=summary_of(report),
        remarks=remarks_of(report) + no_gain(report) + deployed_remarks(report),
        proposal=deployed_summary(report) if report.get("deploy") else "",
        deployed=deployed_table(report) if report.get("deploy") else [],
        command=export_command(deployed(report), report["imgsz"]),
        models=table_of(report),
        notes=[*course_of(report), conditions_of(report), *spreads_of(report), *releases_of(report)],
        pictures={title: b64encode(file.read_bytes()).decode() for title, file in pictures.items()},
        details={
            **(deployed_details(report) if report.get("deploy") else {}),
            "Every layer, dense and pruned": _layer_lines(report),
            "What stays whole, with all other layers at their smallest": whole_of(report),
            "Layers that keep all their outputs, and why": [
                ["layer", "reason"],
                *([layer, entry["reason"]] for entry in report["kept_whole"] for layer in entry["layers"]),
            ],
            "Checkpoints": [["", "file"], *([name, row["weights"]] for name, row in report["rows"].items())],
        },
        version=report["versions"]["ultralytics-compress"],
        explained=EXPLAINED,
    )


def _layer_lines(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of all layers as text."""
    lines = [["layer", "part", *(f"{what}, {which}" for what in WHAT for which in ("dense", "pruned"))]]
    for row in report["layers"]:
        cells = [f"{n:,}" for n in row["channels"]] + [f"{n:.3f}" for n in row["gflops"]]
        lines.append([row["name"], row["part"], *cells, *(f"{n:,}" for n in row["parameters"])])
    return lines
