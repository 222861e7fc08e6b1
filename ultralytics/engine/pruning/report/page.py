# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report as one HTML page that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.report.table import (
    conditions_of,
    export_command,
    remarks_of,
    spreads_of,
    summary_of,
    table_of,
)

WHAT = ("channels", "GFLOPs", "parameters")  # columns of the table of layers
STYLE = """
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #1d2433 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #d9dee7; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
img { max-width: 100%; min-width: 42rem }
summary { cursor: pointer; margin: 1.5rem 0 .5rem }
code { background: #f3f6fa; padding: .1rem .3rem; overflow-wrap: anywhere }
p.remark { border-left: .3rem solid #d97706; padding-left: .8rem }
p.small { color: #5a6475; font-size: .875rem }
"""


def report_page(report: dict[str, Any], pictures: dict[str, Path]) -> str:
    """Return the report as HTML.

    Args:
        report (dict): What `build_report` returned.
        pictures (dict[str, Path]): Title to PNG file; the page holds the pictures themselves.

    Returns:
        (str): The page.
    """
    sections = [
        f"<h1>Pruning report</h1>\n<p>{escape(summary_of(report))}</p>",
        *(f'<p class="remark">{escape(remark)}</p>' for remark in remarks_of(report)),
        f"<p>To deploy it: <code>{escape(export_command(report))}</code>, or any other format of Ultralytics.</p>",
        _table(table_of(report)),
        f'<p class="small">{escape(" ".join([conditions_of(report), *spreads_of(report)]))}</p>',
        *(f"<h2>{escape(title)}</h2>\n{_image(title, file)}" for title, file in pictures.items()),
        f"<details><summary>Every layer, dense and pruned</summary>\n{_table(_layer_lines(report))}</details>",
        "<details><summary>Layers whose outputs stay whole, and why</summary>\n"
        + _table([["layer", "why"], *([name, why] for name, why in report["left_dense"].items())])
        + "</details>",
        "<details><summary>Checkpoints</summary>\n"
        + _table([["", "file"], *([name, row["weights"]] for name, row in report["rows"].items())])
        + "</details>",
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Pruning report</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _layer_lines(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of all layers as text."""
    lines = [["layer", "part", *(f"{what}, {which}" for what in WHAT for which in ("dense", "pruned"))]]
    for row in report["layers"]:
        cells = [f"{n:,}" for n in row["channels"]] + [f"{n:.3f}" for n in row["gflops"]]
        lines.append([row["name"], row["part"], *cells, *(f"{n:,}" for n in row["parameters"])])
    return lines


def _table(lines: list[list[str]]) -> str:
    """Return lines of text as a table whose first line is the heading."""
    rows = []
    for i, cells in enumerate(lines):
        kind = "th" if i == 0 else "td"
        rows.append("<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _image(title: str, file: Path) -> str:
    """Return a picture inside the page."""
    data = b64encode(file.read_bytes()).decode()
    return f'<div class="wide"><img alt="{escape(title)}" src="data:image/png;base64,{data}"></div>'
