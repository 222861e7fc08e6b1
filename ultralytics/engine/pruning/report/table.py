# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report's table and what its figures mean, in words."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

RUNTIMES = {"latency": "PyTorch", "onnx_latency": "ONNX Runtime"}  # kind of latency: where
COLUMNS = {  # key of a row: heading, format
    "parameters": ("parameters", "{:,}"),
    "gflops": ("GFLOPs (640)", "{:.2f}"),
    "size_mb": ("size (MB)", "{:.2f}"),
    "latency_ms": ("PyTorch (ms)", "{:.2f}"),
    "onnx_latency_ms": ("ONNX (ms)", "{:.2f}"),
}


def table_of(report: dict[str, Any]) -> list[list[str]]:
    """Return the report's table as text: a line of headings, a line per model, its name first, and the gain."""
    metrics = {metric: (metric, "{:.4f}") for metric in report["metrics"]}
    columns = {k: v for k, v in {**COLUMNS, **metrics}.items() if k in report["rows"]["dense"]}
    lines = [["", *(heading for heading, _ in columns.values())]]
    for name, row in report["rows"].items():
        lines.append([name, *(form.format(row[key]) for key, (_, form) in columns.items())])
    dense, last = report["rows"]["dense"], report["rows"][name]
    ratios = [f"{dense[key] / last[key]:.2f}x" for key in columns if key not in metrics]
    return [*lines, ["gain", *ratios, *(f"{last[metric] - dense[metric]:+.4f}" for metric in metrics)]]


def spreads_of(report: dict[str, Any]) -> list[str]:
    """Return a line per runtime: the 10th and 90th percentile of every model's latency."""
    lines = []
    for kind, runtime in RUNTIMES.items():
        key = f"{kind}_spread_ms"
        spreads = {name: row[key] for name, row in report["rows"].items() if key in row}
        if spreads:
            ranges = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in spreads.items())
            (low, high), (last_low, last_high) = spreads["dense"], list(spreads.values())[-1]
            apart = last_high < low or high < last_low
            overlap = "" if apart else " The first and the last overlap: their ratio says little."
            lines.append(f"{runtime}, 10th to 90th percentile in ms: {ranges}.{overlap}")
    return lines


def summary_of(report: dict[str, Any]) -> str:
    """Return the lines that say what was gained and kept."""
    onnx = report.get("onnx_latency_speed_up")
    rows, metric = report["rows"], report["metric"]
    last, data = list(rows)[-1], Path(report["data"]).name
    return (
        f"{report['method']}: speed-up {report['speed_up']:.3f}x in FLOPs, "
        f"{report['latency_speed_up']:.2f}x in latency in PyTorch"
        + (f", {onnx:.2f}x in ONNX Runtime on the CPU" if onnx else "")
        + f" (target {report['target']} by budget={report['budget']}). "
        + f"{metric} on {data}: dense {rows['dense'][metric]:.4f}, {last} {rows[last][metric]:.4f}."
    )


def remarks_of(report: dict[str, Any]) -> list[str]:
    """Return what the reader should not overlook: a fine-tuning that has made the model worse than the cut left it."""
    rows, metric = report["rows"], report["metric"]
    if "fine-tuned" not in rows or not rows["fine-tuned"][metric] < rows["pruned"][metric]:
        return []
    return [
        f"Fine-tuning ended below the model straight after the cut: {metric} {rows['fine-tuned'][metric]:.4f}, was "
        f"{rows['pruned'][metric]:.4f}. Fine-tune with more 'epochs' or a lower 'lr0', or deploy "
        f"{rows['pruned']['weights']}."
    ]


def conditions_of(report: dict[str, Any]) -> str:
    """Return how the figures were measured."""
    return (
        f"GFLOPs at 640 pixels. Latency: median of a forward pass, batch 1, {report['imgsz']} pixels, FP32, "
        f"{report['threads']} CPU threads, the models taking turns; PyTorch on {report['device']}; "
        f"ONNX Runtime on the CPU: {report['onnx']}. Size of the checkpoint file as it is."
    )


def export_command(report: dict[str, Any]) -> str:
    """Return the command that exports the last model of the report."""
    weights = list(report["rows"].values())[-1]["weights"]
    return f"yolo export {shlex.quote(f'model={weights}')} format=onnx imgsz={report['imgsz']}"


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{name:>12}" + "".join(f"{cell:>15}" for cell in cells) for name, *cells in table_of(report)]
    return "\n".join([*lines, summary_of(report), conditions_of(report), *spreads_of(report)])
