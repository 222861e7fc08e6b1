# SPDX-License-Identifier: AGPL-3.0-or-later
"""The deploy stage: every target for the dense and the fine-tuned model, validated, timed in turns and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ultralytics.engine.compress.deploy.accuracy import agreement, predictions, validate_file, validation_pictures
from ultralytics.engine.compress.deploy.comparison import classes_that_paid, compare_with_dense
from ultralytics.engine.compress.deploy.export import export
from ultralytics.engine.compress.deploy.formats import device_of, known_formats, open_file
from ultralytics.engine.compress.deploy.runners import Opened
from ultralytics.engine.compress.deploy.targets import Target, read_targets, with_float
from ultralytics.engine.compress.evaluation import TASK_METRICS
from ultralytics.engine.compress.runs import moved
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.files import sha256, write_csv, write_json
from ultralytics.engine.pruning.latency.turns import latency_ratio, take_turns
from ultralytics.engine.pruning.report.build import REPORT_FILE, save_report
from ultralytics.engine.pruning.report.deployed import FILES, file_to_deploy, float_twin
from ultralytics.engine.pruning.report.read import read_report
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.checks import check_imgsz

FOLDER = "deploy"  # in that of the fine-tuning
KEY = ("model", "target", "weights_sha256")  # of a row
RELIEVED = ("onnx",)  # formats whose quantiser can leave layers in float by their measured sensitivity
ROWS_FILE = "rows.json"  # files that are exported and validated, for a run that is resumed
AGREEMENT_PICTURES = 50
REPEATS = 100  # timed rounds of each file
IN_FLOAT = (0.1, 0.25, 0.5)  # shares of the layers that INT8 is taken off, one after the other, if it costs too much


def deploy(run: StockTrainer, weights: Path) -> Path | None:
    """Make the files that 'deploy' asks for and put them into the report of the fine-tuning.

    A format that fails is a row with the reason. Files of an earlier start of the run are kept.

    Args:
        run (StockTrainer): A `Compressor` or `Finetuner`, which has data set and arguments.
        weights (Path): Fine-tuned checkpoint in the 'weights' folder of its run.

    Returns:
        (Path | None): The report; None, which is logged, if there is none of the fine-tuning to add to.
    """
    file = weights.parents[1] / REPORT_FILE
    if not file.exists():
        LOGGER.warning(f"{colorstr('deploy:')} nothing is exported: the fine-tuning has no report: {file}")
        return None
    report = read_report(file, [*TASK_METRICS[run.args.task]])
    models = {name: moved(report["rows"][name]["weights"], file.parent) for name in FILES}
    folder = file.parent / FOLDER
    rows = _rows(run, models, with_float(read_targets(run.prune_args.deploy)), folder, report["metric"])
    _time(rows, run)
    found: dict[str, Any] = {
        "rows": rows,
        "int8_drop": run.prune_args.int8_drop,
        "differences": [],
        "classes": [],
        "picture": None,
    }
    if best := file_to_deploy(rows, report["metric"], run.prune_args.int8_drop):
        dense = float_twin(best, rows, "dense")
        found["classes"] = classes_that_paid(dense["classes"] if dense else {}, best["classes"])
        drawing = folder / "differences.png" if run.args.plots else None
        found["differences"] = compare_with_dense(run, models["dense"], Path(best["file"]), best["format"], drawing)
        found["picture"] = str(drawing) if drawing and drawing.exists() else None
    write_csv(folder / "deploy.csv", [{k: v for k, v in row.items() if k != "classes"} for row in rows])
    save_report({**report, "deploy": found}, file.parent, run.args.plots, run.on_plot)
    return file


def _rows(
    run: StockTrainer, models: dict[str, Path], targets: list[Target], folder: Path, metric: str
) -> list[dict[str, Any]]:
    """Return a row per file, exported and validated now or by an earlier start of the run."""
    record = folder / ROWS_FILE
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    digests = {name: sha256(file) for name, file in models.items()}
    rows: list[dict[str, Any]] = []
    for target in targets:
        for name, weights in models.items():
            key = dict(zip(KEY, (name, target.name, digests[name])))
            row = next((r for r in known if key.items() <= r.items() and _is_whole(r, folder)), None)
            if row is None:
                row = _make(run, weights, key, target, folder / target.name / name)
                row = _relieved(run, weights, row, target, rows, metric)
            rows.append(row)
            write_json(record, rows)
    return rows


def _is_whole(row: dict[str, Any], folder: Path) -> bool:
    """Return True for a row whose file is there."""
    return row["error"] is None and Path(row["file"]).exists() and folder in Path(row["file"]).parents


def _relieved(
    run: StockTrainer, weights: Path, row: dict[str, Any], target: Target, rows: list[dict[str, Any]], metric: str
) -> dict[str, Any]:
    """Return a row, made anew with more and more layers in float as long as INT8 costs more than 'int8_drop'."""
    if row["quantised"] != "calibrated" or target.format not in RELIEVED:
        return row
    key = {name: row[name] for name in KEY}
    twin = next((r for r in rows if (r["model"], r["target"]) == (row["model"], row["float_target"])), None)
    for share in IN_FLOAT:
        if twin is None or twin["error"] or row["error"] or twin[metric] - row[metric] <= run.prune_args.int8_drop:
            break
        LOGGER.info(
            f"{colorstr('deploy:')} INT8 costs {twin[metric] - row[metric]:.4f} {metric}: the {share:.0%} of the "
            "layers that lose most stay in float"
        )
        row = _make(run, weights, key, target, Path(row["file"]).parent, share)
    return row


def _make(
    run: StockTrainer, weights: Path, key: dict[str, str], target: Target, folder: Path, in_float: float = 0.0
) -> dict[str, Any]:
    """Export, validate and compare with PyTorch; whatever a converter or runtime raises goes into the row."""
    LOGGER.info(f"{colorstr('deploy:')} {key['model']} model to {target.name}")
    row: dict[str, Any] = {
        **key,
        "format": target.format,
        "label": known_formats()[target.format].label,
        "quantize": target.quantize,
        "float_target": target.in_float().name,
        "quantised": "",
        "in_float": in_float,
        "file": None,
        "size_mb": None,
        **dict.fromkeys(TASK_METRICS[run.args.task]),
        "agreement": None,
        **dict.fromkeys(("p10_ms", "p50_ms", "p90_ms", "ratio", "threads", "precision", "error")),
        "classes": {},
    }
    with noted(row):
        file, row["quantised"] = export(weights, key["model"], target, run.args, run.device, folder, in_float)
        row["file"], row["size_mb"] = str(file), size_of(file) / 1e6
        metrics, row["classes"] = validate_file(file, target.format, run.args, run.device, folder)
        row |= metrics
        pictures = validation_pictures(run, weights, AGREEMENT_PICTURES)
        own = predictions(weights, pictures, run.args, run.device)
        row["agreement"] = agreement(list(zip(own, predictions(file, pictures, run.args, run.device, target.format))))
    return row


@contextmanager
def noted(row: dict[str, Any]) -> Iterator[None]:
    """Put whatever a converter or a runtime raises in the block into its row: it must not end the others'."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        row["error"] = f"{type(error).__name__}: {error}"
        LOGGER.warning(f"{colorstr('deploy:')} {row['model']} model to {row['target']} failed: {row['error']}")


def _time(rows: list[dict[str, Any]], run: StockTrainer) -> None:
    """Time the files of each format in turns, and note how much faster than the dense one in float each is."""
    size = check_imgsz(run.args.imgsz, min_dim=2)
    for form in dict.fromkeys(row["format"] for row in rows):
        opened: dict[str, tuple[dict[str, Any], Opened]] = {}
        for row in (row for row in rows if row["format"] == form and row["error"] is None):
            with noted(row):
                file = open_file(form, Path(row["file"]), (1, run.data["channels"], *size), torch.get_num_threads())
                file.run()
                opened[f"{row['model']} {row['target']}"] = row, file
        if not opened:
            continue
        runs = {name: file.run for name, (_, file) in opened.items()}
        timings = take_turns(runs, device_of(form, run.device), f"Latency of {form}", REPEATS)
        for name, (row, file) in opened.items():
            timing = timings[name]
            row |= {"p10_ms": timing.low, "p50_ms": timing.median, "p90_ms": timing.high}
            row |= {"threads": file.threads, "precision": file.precision}
            dense = timings.get(f"dense {row['float_target']}")
            row["ratio"] = None if dense is None or dense is timing else latency_ratio(dense, timing)


def size_of(file: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in file.rglob("*") if f.is_file()) if file.is_dir() else file.stat().st_size
