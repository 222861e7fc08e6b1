# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report: dense, pruned and fine-tuned model side by side."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.flops import count_flops
from ultralytics.engine.pruning.latency import measure_latency
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import get_num_params

COLUMNS = {  # key of a row: heading, format
    "parameters": ("parameters", "{:,}"),
    "gflops": ("GFLOPs", "{:.2f}"),
    "size_mb": ("size (MB)", "{:.2f}"),
    "latency_ms": ("latency (ms)", "{:.2f}"),
}


def build_report(
    models: dict[str, nn.Module],
    files: dict[str, str | Path],
    metrics: dict[str, dict[str, float]],
    imgsz: int,
    device: torch.device,
) -> dict:
    """Measure models and put them side by side.

    Args:
        models (dict[str, nn.Module]): Name of the row to model, unfused: 'dense', 'pruned' and others.
        files (dict[str, str | Path]): Name of the row to checkpoint.
        metrics (dict[str, dict[str, float]]): Name of the row to its validation metrics.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device): Where the latency is measured.

    Returns:
        (dict): 'rows' (name to figures and file), 'speed_up' and 'latency_speed_up' (dense over the last row),
            'metrics' (their names), 'method', 'target', 'imgsz', 'device' and 'threads'.
    """
    latency = measure_latency(models, imgsz, device)
    rows = {
        name: {
            "parameters": get_num_params(model),
            "gflops": count_flops(model),
            **metrics[name],
            "size_mb": Path(files[name]).stat().st_size / 1e6,
            "latency_ms": latency[name],
            "weights": str(files[name]),
        }
        for name, model in models.items()
    }
    dense, last = rows["dense"], list(rows.values())[-1]
    return {
        "rows": rows,
        "metrics": list(metrics["dense"]),
        "method": models["pruned"].pruning["method"],
        "target": models["pruned"].pruning["target"],
        "speed_up": dense["gflops"] / last["gflops"],
        "latency_speed_up": dense["latency_ms"] / last["latency_ms"],
        "imgsz": imgsz,
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def save_report(report: dict, file: str | Path) -> None:
    """Write the report as JSON and log it as a table."""
    with written_whole(file) as temporary:
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
    LOGGER.info(f"\n{format_report(report)}\nReport saved to {colorstr('bold', file)}")


def format_report(report: dict) -> str:
    """Return the report as a table, one line per model."""
    columns = {**COLUMNS, **{metric: (metric, "{:.4f}") for metric in report["metrics"]}}
    lines = [f"{'':>12}" + "".join(f"{heading:>15}" for heading, _ in columns.values())]
    for name, row in report["rows"].items():
        cells = (form.format(row[key]) for key, (_, form) in columns.items())
        lines.append(f"{name:>12}" + "".join(f"{cell:>15}" for cell in cells))
    lines.append(
        f"{report['method']}: speed-up {report['speed_up']:.3f}x in FLOPs (target {report['target']}), "
        f"{report['latency_speed_up']:.2f}x in latency. GFLOPs at 640 pixels; latency: median PyTorch forward pass, "
        f"batch 1, {report['imgsz']} pixels, FP32, {report['device']}, {report['threads']} CPU threads; size of the "
        "checkpoint file as it is."
    )
    return "\n".join(lines)
