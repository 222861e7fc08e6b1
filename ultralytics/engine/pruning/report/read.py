# SPDX-License-Identifier: AGPL-3.0-or-later
"""Read the report of an earlier run, which a checkpoint names and which may be any file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGEST = 64 << 20  # bytes; reports have some 100 kB


def read_report(file: Path, metrics: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a report, whose rows, the dense model's among them, have what another report takes over from them.

    Args:
        file (Path): A regular file.
        metrics (Iterable[str], optional): Names of the numbers that every row has, by default the report's own metric.

    Returns:
        (dict[str, Any]): The report.

    Raises:
        ValueError: If it is no report.
    """
    size = file.stat().st_size
    if size > LARGEST:
        raise ValueError(f"'{file}' is no report: it has {size:,} bytes.")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # neither UTF-8 nor JSON
        raise ValueError(f"'{file}' is no report: {error}.") from error
    report = report if isinstance(report, dict) else {}
    rows, wanted = report.get("rows"), [str(report.get("metric"))] if metrics is None else list(metrics)
    if not isinstance(rows, dict) or not all(_is_row(row, wanted) for row in rows.values()):
        raise ValueError(f"'{file}' is no report with rows of {', '.join(wanted)}.")
    if "dense" not in rows:
        raise ValueError(f"'{file}' is no report: it has no row of the dense model.")
    if type(report.get("max_det", 1)) is not int:
        raise ValueError(f"'{file}' is no report: its 'max_det' is {report['max_det']!r:.80}.")
    return report


def _is_row(row: Any, metrics: Iterable[str]) -> bool:
    """Return True for a row with a checkpoint and the metrics."""
    return (
        isinstance(row, dict)
        and str(row.get("weights", "")).endswith(".pt")
        and all(isinstance(row.get(metric), (int, float)) for metric in metrics)
    )
