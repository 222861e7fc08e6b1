# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report's table and what its figures mean, in words."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.latency.turns import INTERRUPTED, UNRESOLVED
from ultralytics.engine.pruning.report.beside import advice_of
from ultralytics.engine.pruning.report.course import course_of
from ultralytics.engine.pruning.report.deployed import deployed_table
from ultralytics.utils import colorstr

PLACES = {name: runtime.label + " on the CPU" * runtime.on_cpu for name, runtime in RUNTIMES.items()}
BUDGET_LABELS = {
    "flops": "FLOPs",
    "params": "parameters",
    "size": "bytes of weights",
    **{name: f"latency in {place}" for name, place in PLACES.items()},
}
COLUMNS = {  # key of a row: heading, format, key of the report's ratio if it has one
    "parameters": ("parameters", "{:,}", None),
    "gflops": ("GFLOPs (640)", "{:.2f}", "flops_ratio"),
    "size_mb": ("size (MB)", "{:.2f}", None),
    **{
        f"{name}_latency_p10_ms": (f"{runtime.label} (ms)", "{:.2f}", f"{name}_latency_ratio")
        for name, runtime in RUNTIMES.items()
    },
}
LEAST_GAIN = 1.05  # times that a pruned model must be faster to be called so
SHOWN = 0.01  # share of the cost from which on the log names what stays whole


def table_of(report: dict[str, Any]) -> list[list[str]]:
    """Return the report's table as text: a line of headings, a line per model, its name first, and the gain."""
    metrics = report["metrics"]
    columns = {key: column for key, column in COLUMNS.items() if key in report["rows"]["dense"]}
    lines = [["", *(heading for heading, _, _ in columns.values()), *metrics]]
    for name, row in report["rows"].items():
        cells = [form.format(row[key]) for key, (_, form, _) in columns.items()]
        lines.append([name, *cells, *(f"{row[metric]:.4f}" for metric in metrics)])
    dense, last = report["rows"]["dense"], report["rows"][name]
    ratios = [_ratio(report[ratio] if ratio else dense[key] / last[key]) for key, (_, _, ratio) in columns.items()]
    return [*lines, ["gain", *ratios, *(f"{last[metric] - dense[metric]:+.4f}" for metric in metrics)]]


def spreads_of(report: dict[str, Any]) -> list[str]:
    """Return a line per runtime: the 10th, 50th and 90th percentile of every model's latency."""
    lines = []
    for runtime in timed_runtimes(report):
        ranges = []
        for name, row in report["rows"].items():
            low, median, high = (row[f"{runtime}_latency_p{percent}_ms"] for percent in (10, 50, 90))
            ranges.append(f"{name} {low:.2f} / {median:.2f} / {high:.2f}")
        line = f"{PLACES[runtime]}, 10th / 50th / 90th percentile in ms: {', '.join(ranges)}."
        if report[f"{runtime}_latency_ratio"] is None:
            line += (
                f" {_reason(report, runtime, name)}, so their ratio is {UNRESOLVED}. Measure again when the machine "
                "has no other work."
            )
        lines.append(line)
    return lines


def summary_of(report: dict[str, Any]) -> str:
    """Return what was gained and what it cost, for the headline."""
    rows, metric, target = report["rows"], report["metric"], report["target"]
    last, data = list(rows)[-1], Path(report["data"]).name
    ratios = {"flops": _ratio(report["flops_ratio"], 3)}
    ratios |= {runtime: _ratio(report[f"{runtime}_latency_ratio"]) for runtime in timed_runtimes(report)}
    gains = ", ".join(f"{budget_label(kind)} {ratio}" for kind, ratio in ratios.items())
    precision = target.get("precision", "fp32")  # which reports of version 0.2.0 lack
    counted = f"{budget_label(target['budget'])}{f' in {precision.upper()}' * (precision != 'fp32')}"
    return (
        f"Pruned by {report['method']}. Dense over {last}: {gains}. Target of budget={target['budget']}: "
        f"{target['value']:g}x in {counted}, {target['reached']:.2f}x after the cut. "
        f"{metric} on {data}: dense {rows['dense'][metric]:.4f}, {last} {rows[last][metric]:.4f}."
    )


def timed_runtimes(report: dict[str, Any]) -> list[str]:
    """Return the runtimes whose latency was measured."""
    return [runtime for runtime in RUNTIMES if f"{runtime}_latency_ratio" in report]


def budget_label(budget: str) -> str:
    """Return what a budget counts, in words; one that is not in the table is the answer of a device, or a runner's."""
    return BUDGET_LABELS.get(budget) or f"latency by {budget}"


def no_gain(report: dict[str, Any]) -> list[str]:
    """Return, for the runtimes in which a model is no faster straight after the cut, a line that says so."""
    rows, lines = report["rows"], []
    for runtime in timed_runtimes(report) if "fine-tuned" not in rows else ():
        ratio = report[f"{runtime}_latency_ratio"]
        if runtime not in report.get("interrupted", {}) and (ratio is None or ratio < LEAST_GAIN):
            dense, pruned = (rows[name][f"{runtime}_latency_p10_ms"] for name in ("dense", "pruned"))
            lines.append(
                f"The pruned model is no faster in {PLACES[runtime]}: {pruned:.2f} ms, dense {dense:.2f} ms"
                f"{', which is within the noise' * (ratio is None)}. Fine-tuning will not change that. If it will "
                "run there, ask for the time itself with 'budget' and 'target', or use a larger image size or batch."
            )
    return lines


def remarks_of(report: dict[str, Any]) -> list[str]:
    """Return what the reader should not overlook: a fine-tuning that was worth nothing, a better model beside."""
    rows, metric = report["rows"], report["metric"]
    better = report.get("better")  # earlier versions had none
    advice = [f"Of what has been measured beside this run, {advice_of(better, metric)}."] if better else []
    if "fine-tuned" not in rows or not rows["fine-tuned"][metric] < rows["pruned"][metric]:
        return advice
    return [
        *advice,
        f"Fine-tuning ended below the model straight after the cut: {metric} {rows['fine-tuned'][metric]:.4f}, was "
        f"{rows['pruned'][metric]:.4f}. Fine-tune with more 'epochs' or a lower 'lr0', or deploy "
        f"{rows['pruned']['weights']}.",
    ]


def conditions_of(report: dict[str, Any]) -> str:
    """Return how the figures were measured."""
    places = []
    for name, version in report["runtimes"].items():
        where = "the CPU" if RUNTIMES[name].on_cpu else report["device"]
        places.append(f"{RUNTIMES[name].label} on {where}: {version}")
    quantised = report.get("quantised")  # earlier versions had none
    simulated = (
        f" Accuracy of {', '.join(quantised)}: of INT8 weights and activations, simulated; GFLOPs and latency: of the "
        "float layers. The file that an export to onnx or engine makes of it runs in INT8."
        if quantised
        else ""
    )
    return (
        f"GFLOPs at 640 pixels. Latency: 10th percentile of a forward pass, batch 1, {report['imgsz']} pixels, FP32, "
        f"{report['threads']} CPU threads, models timed in turns; {'; '.join(places)}. Size of the checkpoint file as "
        f"saved.{simulated}"
    )


def releases_of(report: dict[str, Any]) -> list[str]:
    """Return in which releases of Ultralytics the checkpoints load, if that is known."""
    release = report.get("needs_ultralytics")
    return [f"The checkpoints load in Ultralytics {release} or newer, without this package."] if release else []


def whole_of(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of what stays whole as text: a line of headings, then the largest share of the cost first."""
    unit = "FLOPs" if report["target"]["budget"] == "flops" else "milliseconds"
    return [
        ["kept whole", "layers", f"share of the {unit}", "reason"],
        *([e["place"], f"{len(e['layers'])}", f"{e['share']:.1%}", e["reason"]] for e in report["kept_whole"]),
    ]


def deployed(report: dict[str, Any]) -> str:
    """Return the checkpoint to deploy, that of the last model."""
    return list(report["rows"].values())[-1]["weights"]


def export_command(weights: str, imgsz: int) -> str:
    """Return the command that exports a checkpoint.

    Args:
        weights (str): Checkpoint.
        imgsz (int): Image size in pixels.
    """
    return f"yolo export {shlex.quote(f'model={weights}')} format=onnx imgsz={imgsz}"


def deploy_line(weights: str, imgsz: int) -> str:
    """Return what to deploy, and the command that makes a file of it.

    Args:
        weights (str): Checkpoint.
        imgsz (int): Image size in pixels.
    """
    return f"Deploy {colorstr('bold', weights)}, for example: {export_command(weights, imgsz)}"


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{name:>12}" + "".join(f"{cell:>19}" for cell in cells) for name, *cells in table_of(report)]
    shown = sum(entry["share"] >= SHOWN for entry in report["kept_whole"])
    whole = [f"{name:>12}{count:>8}{share:>21}  {reason}" for name, count, share, reason in whole_of(report)]
    lines += whole[: shown + 1] if shown else []
    files = []
    if report.get("deploy"):
        files = [
            "",
            *("".join(f"{cell:>15}" for cell in cells[:-1]) + f"  {cells[-1]}" for cells in deployed_table(report)),
        ]
    return "\n".join(
        [
            *lines,
            summary_of(report),
            *course_of(report),
            conditions_of(report),
            *spreads_of(report),
            *releases_of(report),
            *files,
        ]
    )


def _reason(report: dict[str, Any], runtime: str, name: str) -> str:
    """Return why a runtime's ratio of the dense model to another is not resolved."""
    if busy := report.get("interrupted", {}).get(runtime):  # which reports of version 0.2.0 lack
        return f"{INTERRUPTED} of {', '.join(busy)}"
    return f"The ranges of dense and {name} overlap"


def _ratio(ratio: float | None, digits: int = 2) -> str:
    return UNRESOLVED if ratio is None else f"{ratio:.{digits}f}x"
