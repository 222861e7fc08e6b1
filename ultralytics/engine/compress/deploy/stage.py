# SPDX-License-Identifier: AGPL-3.0-or-later
"""The deploy stage: every target for the dense and the fine-tuned model, timed in turns and reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ultralytics.engine.compress.deploy.comparison import classes_that_paid, compare_with_dense
from ultralytics.engine.compress.deploy.formats import device_of, open_file
from ultralytics.engine.compress.deploy.rows import make_rows, noted
from ultralytics.engine.compress.deploy.runners import Opened
from ultralytics.engine.compress.deploy.targets import read_targets, with_float
from ultralytics.engine.compress.evaluation import TASK_METRICS
from ultralytics.engine.compress.runs import moved
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.files import write_csv
from ultralytics.engine.pruning.latency.turns import latency_ratio, take_turns
from ultralytics.engine.pruning.report.build import REPORT_FILE, save_report
from ultralytics.engine.pruning.report.deployed import FILES, file_to_deploy, float_twin
from ultralytics.engine.pruning.report.read import read_report
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.checks import check_imgsz

FOLDER = "deploy"  # in that of the fine-tuning
REPEATS = 100  # timed rounds of each file


def deploy(run: StockTrainer, weights: Path, elsewhere: Sequence[dict[str, Any]] = ()) -> Path | None:
    """Make the files that 'deploy' asks for and put them into the report of the fine-tuning.

    A format that fails is a row with the reason. Files of an earlier start of the run are kept.

    Args:
        run (StockTrainer): A `Compressor` or `Finetuner`, which has data set and arguments.
        weights (Path): Fine-tuned checkpoint in the 'weights' folder of its run.
        elsewhere (Sequence[dict[str, Any]]): Rows of another run: its files of the same checkpoints are not made again.

    Returns:
        (Path | None): The report; None, which is logged, if there is none of the fine-tuning to add to.
    """
    file = weights.parents[1] / REPORT_FILE
    if not file.exists():
        LOGGER.warning(f"{colorstr('deploy:')} nothing is exported: the fine-tuning has no report: {file}")
        return None
    report = read_report(file, [*TASK_METRICS[run.args.task]])
    made = [name for name in FILES if name in report["rows"]]
    models = {name: moved(report["rows"][name]["weights"], file.parent) for name in made}
    folder = file.parent / FOLDER
    targets = with_float(read_targets(run.prune_args.deploy))
    rows = make_rows(run, models, targets, folder, report["metric"], elsewhere)
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


def _time(rows: list[dict[str, Any]], run: StockTrainer) -> None:
    """Time the files of each format in turns, and note how much faster than the dense one in float each is."""
    size = check_imgsz(run.args.imgsz, min_dim=2)
    for row in rows:  # also those that fail, and those of an earlier version
        row["interrupted"] = False
    threads = torch.get_num_threads()
    for form in dict.fromkeys(row["format"] for row in rows):
        device = device_of(form, run.device)
        opened: dict[str, tuple[dict[str, Any], Opened]] = {}
        for row in (row for row in rows if row["format"] == form and row["error"] is None):
            with noted(row):
                file = open_file(form, Path(row["file"]), (1, run.data["channels"], *size), threads, device)
                file.run()
                opened[f"{row['model']} {row['target']}"] = row, file
        if not opened:
            continue
        runs = {name: file.run for name, (_, file) in opened.items()}
        timings = take_turns(runs, device, f"Latency of {form}", REPEATS)
        for name, (row, file) in opened.items():
            timing = timings[name]
            row |= {"p10_ms": timing.low, "p50_ms": timing.median, "p90_ms": timing.high}
            row |= {"threads": file.threads, "precision": file.precision, "interrupted": timing.interrupted}
            dense = timings.get(f"dense {row['float_target']}")
            row["ratio"] = None if dense is None or dense is timing else latency_ratio(dense, timing)
