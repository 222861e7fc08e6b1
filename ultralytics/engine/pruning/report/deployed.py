# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the files of a deploy stage cost and keep, in a table and in words, and which one to deploy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.latency.turns import INTERRUPTED, UNRESOLVED
from ultralytics.engine.pruning.report.sweep_plot import pareto_front

TUNED, QUANTISED = "fine-tuned", "quantised"  # rows of the report: the latter after a quantization-aware training
FILES = ("dense", TUNED, QUANTISED)  # rows that are deployed, if they are there
IN_FLOAT = {QUANTISED: TUNED}  # model: the one whose float files its own, INT8 all of them, are judged by
KINDS = {  # model, where its INT8 ranges come from: how the reader knows it
    ("dense", ""): "dense",
    (TUNED, ""): "pruned",
    ("dense", "calibrated"): "INT8",
    (TUNED, "calibrated"): "pruned + INT8",
    **dict.fromkeys(((TUNED, "trained"), (QUANTISED, "trained")), "pruned + QAT"),
    **dict.fromkeys(((TUNED, "recalibrated"), (QUANTISED, "recalibrated")), "pruned + QAT, calibrated"),
}
MOST_PICTURES = 10  # rows of the table of differing pictures


def kind_of(row: dict[str, Any]) -> str:
    """Return what has been done to the model of a file."""
    kind = KINDS[row["model"], row["quantised"]]
    if row["in_float"]:
        return f"{kind} ({row['in_float']:.0%} of its layers float)"
    return f"{kind}, {row['quantize']}" if row["quantize"] and not row["quantised"] else kind


def measured(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of files that were made, validated and timed."""
    return [row for row in rows if row["error"] is None and row["p10_ms"]]


def float_twin(row: dict[str, Any], rows: Sequence[dict[str, Any]], model: str | None = None) -> dict[str, Any] | None:
    """Return the row of the same cut, or of another model, in floating point and in the same runtime, if measured."""
    key = {"model": model or IN_FLOAT.get(row["model"], row["model"]), "target": row["float_target"]}
    return next((other for other in measured(rows) if other is not row and key.items() <= other.items()), None)


def file_to_deploy(rows: Sequence[dict[str, Any]], metric: str, int8_drop: float) -> dict[str, Any] | None:
    """Return the row of the fastest file of the pruned model whose accuracy quantisation has left.

    Args:
        rows (Sequence[dict[str, Any]]): Rows of a deploy stage.
        metric (str): Name of the main metric.
        int8_drop (float): Largest drop of it against the same model in floating point.

    Returns:
        (dict[str, Any] | None): Its row, None if no file was made.
    """
    fit = []
    for row in measured(rows):
        twin = float_twin(row, rows)
        if row["model"] != "dense" and (twin is None or row[metric] >= twin[metric] - int8_drop):
            fit.append(row)
    return min(fit, key=lambda row: row["p10_ms"], default=None)


def deployed_table(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of files as text: a line of headings and a line per file."""
    metric, rows = report["metric"], report["deploy"]["rows"]
    fronts = {key: _front(rows, key, metric) for key in ("p10_ms", "size_mb")}
    heads = ["", "runtime", metric, "ms (p10)", "ms (p50)", "dense / this", "size (MB)", "as PyTorch", "threads"]
    lines = [[*heads, "float layers", "best at its", "file"]]
    for row in rows:
        if row["error"] is not None:
            lines.append([kind_of(row), row["label"], "failed", *[""] * 8, row["error"]])
            continue
        best = [
            name for key, name in (("p10_ms", "ms"), ("size_mb", "size")) if row["target"] + row["model"] in fronts[key]
        ]
        cells = [
            f"{row[metric]:.4f}",
            _number(row["p10_ms"]),
            _number(row["p50_ms"]),
            _ratio(row),
            _number(row["size_mb"]),
        ]
        agreement = "" if row["agreement"] is None else f"{row['agreement']:.1%}"
        threads = str(row["threads"] or "runtime's own")
        lines.append(
            [
                kind_of(row),
                row["label"],
                *cells,
                agreement,
                threads,
                row["precision"] or "",
                ", ".join(best),
                row["file"],
            ]
        )
    return lines


def deployed_summary(report: dict[str, Any]) -> str:
    """Return which file to deploy and what it gains and costs; empty if there is none."""
    found, metric = report["deploy"], report["metric"]
    best = file_to_deploy(found["rows"], metric, found["int8_drop"])
    if best is None:
        return ""
    dense = float_twin(best, found["rows"], "dense")
    gain = (
        ""
        if dense is None
        else f"{_speed(best)} in {best['label']}, {_points(best[metric] - dense[metric])} {metric}, "
    )
    return f"Deploy {best['file']}: {gain}{best['size_mb']:.2f} MB ({kind_of(best)})"


def deployed_remarks(report: dict[str, Any]) -> list[str]:
    """Return what the reader should not overlook: INT8 that gains nothing or costs much here, and what failed."""
    found, metric = report.get("deploy"), report["metric"]
    if found is None:
        return []
    remarks = []
    if busy := [f"{kind_of(row)} in {row['label']}" for row in found["rows"] if row.get("interrupted")]:
        remarks.append(
            f"{INTERRUPTED} of {', '.join(busy)}: they took too long, by how much "
            f"depends on the file, and ratios to them are {UNRESOLVED}. Measure again when the machine is idle."
        )
    for row in measured(found["rows"]):
        twin = float_twin(row, found["rows"])
        if not row["quantised"] or twin is None:
            continue
        name = f"{kind_of(row)} in {row['label']}"
        interrupted = row.get("interrupted") or twin.get("interrupted")  # which reports of version 0.2.0 lack
        if row["p10_ms"] >= twin["p10_ms"] and not interrupted:
            remarks.append(
                f"{name} is no faster than the same model in float on this machine: {row['p10_ms']:.2f} ms against "
                f"{twin['p10_ms']:.2f} ms."
            )
        if (drop := twin[metric] - row[metric]) > found["int8_drop"]:
            untrained = (row["model"], row["quantised"]) == (TUNED, "calibrated")
            remedy = " A quantization-aware training may get it back: 'qat_epochs'." if untrained else ""
            remarks.append(
                f"{name} loses {drop:.4f} {metric} against the same model in float, more than "
                f"'int8_drop={found['int8_drop']:g}': it is not proposed.{remedy}"
            )
    return remarks + [
        f"{kind_of(row)} to {row['target']} failed: {row['error']}" for row in found["rows"] if row["error"] is not None
    ]


def deployed_details(report: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Return the tables of what the proposed file has lost, by class and by picture, under their titles."""
    found = report["deploy"]
    classes = [[r["class"], *(f"{r[key]:.4f}" for key in ("dense", "deployed", "loss"))] for r in found["classes"]]
    shown = found["differences"][:MOST_PICTURES]
    pictures = [[Path(r["picture"]).name, *(str(r[key]) for key in ("dense", "deployed", "alone"))] for r in shown]
    tables = {
        "Which class paid: AP50-95 of dense model and proposed file": [
            ["class", "dense", "deployed", "loss"],
            *classes,
        ],
        "Pictures on which they differ most": [["picture", "dense", "deployed", "found by one alone"], *pictures],
    }
    return {title: lines for title, lines in tables.items() if len(lines) > 1}


def _front(rows: Sequence[dict[str, Any]], key: str, metric: str) -> set[str]:
    """Return the files that no other one beats in both a cost and the metric."""
    known = measured(rows)
    front = pareto_front([(row[key], row[metric]) for row in known])
    return {known[i]["target"] + known[i]["model"] for i in front}


def _speed(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return f"speed against the dense model {UNRESOLVED}"
    return f"{row['ratio']:.1f}x faster than the dense model in float"


def _points(difference: float) -> str:
    """Return a difference of a metric in points, hundredths of it."""
    return f"{100 * difference:+.1f} points"


def _ratio(row: dict[str, Any]) -> str:
    if (row["model"], row["quantize"]) == ("dense", None):
        return ""
    return UNRESOLVED if row["ratio"] is None else f"{row['ratio']:.2f}x"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
