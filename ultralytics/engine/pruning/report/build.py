# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report: dense, pruned and fine-tuned model side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.checkpoint.record import Record, versions
from ultralytics.engine.pruning.checkpoint.whole import kept_whole
from ultralytics.engine.pruning.files import write_json, written_whole
from ultralytics.engine.pruning.latency.blocks import block_latency
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES, measure_latency
from ultralytics.engine.pruning.latency.turns import Timing, latency_ratio
from ultralytics.engine.pruning.report.course import passed_dense
from ultralytics.engine.pruning.report.deployed import deployed_remarks, deployed_summary
from ultralytics.engine.pruning.report.layers import compare_layers
from ultralytics.engine.pruning.report.page import report_page
from ultralytics.engine.pruning.report.plots import draw_report
from ultralytics.engine.pruning.report.table import deploy_line, deployed, format_report, no_gain, remarks_of
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import get_num_params

REPORT_FILE = "report.json"
SCHEMA = 2  # layout of report.json; 1 had no number, medians for latencies and 'speed_up' for the ratio of FLOPs


def build_report(
    models: dict[str, nn.Module],
    files: Mapping[str, str | Path],
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
        files (Mapping[str, str | Path]): Name of the row to checkpoint.
        metrics (dict[str, dict[str, float]]): Name of the row to its validation metrics.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device): Where the latency is measured.
        data (str): What the metrics were measured on, for the reader.
        metric (str): The main one of them.
        curve (dict, optional): Accuracy while fine-tuning: see `read_curve`.

    Returns:
        (dict): 'schema' (number of this layout), 'versions' (of this package and others), 'rows' (see `_row`; models
            with the same shapes of layers share their latencies), 'data', 'metrics' (their names), 'metric', 'method',
            'target' ('budget', the 'value' asked for and what the cut 'reached', both dense over pruned in the budget's
            unit), 'flops_ratio' and '<runtime>_latency_ratio' (dense over the last row; None where it is not
            resolved, see `latency_ratio`, and missing where not measured), 'interrupted' (runtime to the rows that
            other work of the machine interrupted all the time), 'imgsz', 'device', 'threads', 'runtimes'
            (name to version, or why not measured), 'layers' (see `compare_layers`), 'blocks' (see `block_latency`),
            'left_dense' (layers whose outputs stay whole, and why), 'kept_whole' (those and others that a bound keeps
            whole, by block and reason, with their 'share' of the dense cost, see `kept_whole`), 'needs_ultralytics'
            (the oldest release that loads the checkpoints, empty if not known), 'curve' and 'passed_dense' (the first
            epoch of it that was as good as the dense model, see `passed_dense`; None if none was).
    """
    twins = _twins(models)
    timed = {name: models[name] for name in twins.values()}
    record = Record.of(models["pruned"])
    latency, unmeasured = measure_latency(timed, imgsz, device, record.budget)
    rows = {
        name: _row(model, files[name], metrics[name], {kind: timings[twins[name]] for kind, timings in latency.items()})
        for name, model in models.items()
    }
    last = list(models)[-1]
    ends = {name: models[name] for name in ("dense", last)}
    return {
        "schema": SCHEMA,
        "versions": versions(),
        "rows": rows,
        "metrics": list(metrics["dense"]),
        "metric": metric,
        "data": data,
        "method": record.prune_method,
        "target": {
            "budget": record.budget,
            "precision": record.precision,
            "value": record.target,
            "reached": record.reached,
        },
        "flops_ratio": rows["dense"]["gflops"] / rows[last]["gflops"],
        **{f"{kind}_latency_ratio": latency_ratio(t["dense"], t[twins[last]]) for kind, t in latency.items()},
        "interrupted": {
            kind: [name for name in models if t[twins[name]].interrupted]
            for kind, t in latency.items()
            if any(timing.interrupted for timing in t.values())
        },
        "imgsz": imgsz,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "runtimes": {**{name: RUNTIMES[name].version(device) for name in latency}, **unmeasured},
        "layers": compare_layers(*ends.values()),
        "blocks": block_latency(ends, imgsz, device),
        "left_dense": record.left_dense,
        "needs_ultralytics": record.needs_ultralytics,
        "kept_whole": [entry._asdict() for entry in kept_whole({**record.left_dense, **record.held}, record.shares)],
        "curve": curve,
        "passed_dense": passed_dense(curve, metrics["dense"][metric]) if curve else None,
    }


def _row(model: nn.Module, file: str | Path, metrics: dict[str, float], latency: dict[str, Timing]) -> dict[str, Any]:
    """Return the figures of one model: for every runtime, milliseconds as 10th, 50th and 90th percentile."""
    percentiles = {}
    for runtime, timing in latency.items():
        for percent, ms in ((10, timing.low), (50, timing.median), (90, timing.high)):
            percentiles[f"{runtime}_latency_p{percent}_ms"] = ms
    return {
        "parameters": get_num_params(model),
        "gflops": count_flops(model),
        **metrics,
        "size_mb": Path(file).stat().st_size / 1e6,
        **percentiles,
        "weights": str(file),
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
    if on_plot:
        for picture in pictures.values():
            on_plot(picture)
    with written_whole(folder / "report.html") as temporary:
        temporary.write_text(report_page(report, pictures), encoding="utf-8")
    write_json(folder / REPORT_FILE, report)  # last: it is what tells a resumed run that the report is complete
    LOGGER.info(f"\n{format_report(report)}\nReport saved to {colorstr('bold', folder / 'report.html')}")
    for remark in remarks_of(report) + no_gain(report) + deployed_remarks(report):
        LOGGER.warning(remark)
    if "fine-tuned" in report["rows"]:
        proposal = deployed_summary(report) if report.get("deploy") else ""
        LOGGER.info(proposal or deploy_line(deployed(report), report["imgsz"]))
