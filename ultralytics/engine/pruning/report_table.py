# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report's table and what its figures mean, in words."""

from __future__ import annotations

from typing import Any

COLUMNS = {  # key of a row: heading, format
    "parameters": ("parameters", "{:,}"),
    "gflops": ("GFLOPs", "{:.2f}"),
    "size_mb": ("size (MB)", "{:.2f}"),
    "latency_ms": ("PyTorch (ms)", "{:.2f}"),
    "onnx_latency_ms": ("ONNX (ms)", "{:.2f}"),
}


def table_of(report: dict[str, Any]) -> list[list[str]]:
    """Return the report's table as text: a line of headings, then one line per model, its name first."""
    metrics = {metric: (metric, "{:.4f}") for metric in report["metrics"]}
    columns = {k: v for k, v in {**COLUMNS, **metrics}.items() if k in report["rows"]["dense"]}
    lines = [["", *(heading for heading, _ in columns.values())]]
    for name, row in report["rows"].items():
        lines.append([name, *(form.format(row[key]) for key, (_, form) in columns.items())])
    return lines


def spreads_of(report: dict[str, Any]) -> list[str]:
    """Return a line per runtime: the 10th and 90th percentile of every model's latency."""
    runtimes = {"latency_spread_ms": "PyTorch", "onnx_latency_spread_ms": "ONNX Runtime"}
    lines = []
    for key, runtime in runtimes.items():
        spreads = {name: row[key] for name, row in report["rows"].items() if key in row}
        if spreads:
            ranges = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in spreads.items())
            lines.append(f"{runtime}, 10th to 90th percentile in ms: {ranges}.")
    return lines


def summary_of(report: dict[str, Any]) -> str:
    """Return the line that says what was gained."""
    onnx = report.get("onnx_latency_speed_up")
    return (
        f"{report['method']}: speed-up {report['speed_up']:.3f}x in FLOPs, "
        f"{report['latency_speed_up']:.2f}x in latency in PyTorch"
        + (f", {onnx:.2f}x in ONNX Runtime on the CPU" if onnx else "")
        + f" (target {report['target']} by budget={report['budget']})."
    )


def conditions_of(report: dict[str, Any]) -> str:
    """Return how the figures were measured."""
    return (
        f"GFLOPs at 640 pixels. Latency: median of a forward pass, batch 1, {report['imgsz']} pixels, FP32, "
        f"{report['threads']} CPU threads, the models taking turns; PyTorch on {report['device']}; "
        f"ONNX Runtime on the CPU: {report['onnx']}. Size of the checkpoint file as it is."
    )


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{name:>12}" + "".join(f"{cell:>15}" for cell in cells) for name, *cells in table_of(report)]
    return "\n".join([*lines, summary_of(report), conditions_of(report)])
