# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report: dense, pruned and fine-tuned model side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.latency.onnx_session import onnx_version
from ultralytics.engine.pruning.latency.whole import block_latency, missing_for_onnx, onnx_latency, pytorch_latency
from ultralytics.engine.pruning.report.layers import compare_layers
from ultralytics.engine.pruning.report.page import report_page
from ultralytics.engine.pruning.report.plots import draw_report
from ultralytics.engine.pruning.report.table import format_report, remarks_of
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import get_num_params

REPORT_FILE = "report.json"


def build_report(
    models: dict[str, nn.Module],
    files: dict[str, str | Path],
    metrics: dict[str, dict[str, float]],
    imgsz: int,
    device: torch.device,
    data: str,
    metric: str,
    curve: dict[str, Any] | None = None,
) -> dict:
    """Measure models and put them side by side.

    Args:
        models (dict[str, nn.Module]): Name of the row to model, unfused: 'dense', 'pruned' and others.
        files (dict[str, str | Path]): Name of the row to checkpoint.
        metrics (dict[str, dict[str, float]]): Name of the row to its validation metrics.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device): Where the latency is measured.
        data (str): What the metrics were measured on, for the reader.
        metric (str): The main one of them.
        curve (dict, optional): Accuracy while fine-tuning: name of the 'metric', 'epochs' and 'values'.

    Returns:
        (dict): 'rows' (name to figures and file; latencies in milliseconds, the spread as 10th and 90th percentile;
            models with the same shapes of layers share them), 'data', 'metrics' (their names), 'metric', 'speed_up',
            'latency_speed_up' and 'onnx_latency_speed_up' (dense over the last row), 'method', 'target', 'budget',
            'imgsz', 'device', 'threads', 'onnx' (version, or why not measured), 'layers' (see `compare_layers`),
            'blocks' (see `block_latency`), 'left_dense' (layers whose outputs stay whole, and why) and 'curve'.
    """
    missing = missing_for_onnx()
    twins = _twins(models)
    timed = {name: models[name] for name in twins.values()}
    latency = {"latency": pytorch_latency(timed, imgsz, device)}
    if not missing:
        latency["onnx_latency"] = onnx_latency(timed, imgsz)
    rows = {
        name: {
            "parameters": get_num_params(model),
            "gflops": count_flops(model),
            **metrics[name],
            "size_mb": Path(files[name]).stat().st_size / 1e6,
            **{f"{kind}_ms": timings[twins[name]].median for kind, timings in latency.items()},
            **{f"{kind}_spread_ms": list(timings[twins[name]][1:]) for kind, timings in latency.items()},
            "weights": str(files[name]),
        }
        for name, model in models.items()
    }
    record = Record.of(models["pruned"])
    dense, last = rows["dense"], list(rows.values())[-1]
    ends = {name: models[name] for name in ("dense", list(models)[-1])}
    return {
        "rows": rows,
        "metrics": list(metrics["dense"]),
        "metric": metric,
        "data": data,
        "method": record.prune_method,
        "target": record.target,
        "budget": record.budget,
        "speed_up": dense["gflops"] / last["gflops"],
        **{f"{kind}_speed_up": dense[f"{kind}_ms"] / last[f"{kind}_ms"] for kind in latency},
        "imgsz": imgsz,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "onnx": f"not measured, not installed: {', '.join(missing)}" if missing else onnx_version(),
        "layers": compare_layers(*ends.values()),
        "blocks": block_latency(ends, imgsz, device),
        "left_dense": record.left_dense,
        "curve": curve,
    }


def _twins(models: dict[str, nn.Module]) -> dict[str, str]:
    """Return the name of each model to that of the first one with layers of the same shapes, which takes as long."""
    first: dict[tuple, str] = {}
    return {name: first.setdefault(tuple(p.shape for p in model.parameters()), name) for name, model in models.items()}


def save_report(report: dict, folder: Path, plots: bool = True, on_plot: Callable[[Path], None] | None = None) -> None:
    """Write the report as JSON, pictures and a page, and log it as a table.

    Args:
        report (dict): What `build_report` returned.
        folder (Path): Where report.json, report.html and the pictures go.
        plots (bool): Draw the pictures; without them the page has the tables alone.
        on_plot (Callable, optional): Is told the path of each picture.
    """
    pictures = draw_report(report, folder) if plots else {}
    for picture in pictures.values() if on_plot else ():
        on_plot(picture)
    for name, text in ((REPORT_FILE, json.dumps(report, indent=2)), ("report.html", report_page(report, pictures))):
        with written_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    LOGGER.info(f"\n{format_report(report)}\nReport saved to {colorstr('bold', folder / 'report.html')}")
    for remark in remarks_of(report):
        LOGGER.warning(remark)
