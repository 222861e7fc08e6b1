# SPDX-License-Identifier: AGPL-3.0-or-later
"""A sweep: several targets from one dense model, and what they cost and keep side by side."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML, get_save_dir
from ultralytics.cfg.compress.keys import check, refusing, sweep_targets
from ultralytics.engine.compress.checks.training import check_resume_value
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.compress.lock import lock, unlock
from ultralytics.engine.compress.runs import find_run, folder_of, moved
from ultralytics.engine.compress.sensitivity_map import SENSITIVITY_FILE, read_rows
from ultralytics.engine.compress.stages import STAGES_FILE, has_begun
from ultralytics.engine.pruning.checkpoint.qat import float_copy
from ultralytics.engine.pruning.checkpoint.record import versions
from ultralytics.engine.pruning.files import write_csv, write_json, written_whole
from ultralytics.engine.pruning.latency.runtimes import measure_latency
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.report.build import REPORT_FILE
from ultralytics.engine.pruning.report.sweep_plot import draw_sweep
from ultralytics.engine.pruning.report.table import export_command
from ultralytics.utils import LOGGER, colorstr

RUNS_FILE = "runs.yaml"  # target to the folder of its run
SCHEMA = 2  # layout of sweep.json; 1 had no number, medians for latencies and 'speed_up' for the ratio of FLOPs


def sweep(compressor: type[Compressor], args: dict[str, Any], callbacks: dict) -> dict[str, Any]:
    """Compress one dense model to several targets.

    What the targets share is done once: the base training of a YAML, the validation of the dense model, and a sparsity
    training and a sensitivity map that do not depend on the target. All cuts are made before the first fine-tuning, the
    largest target first, so that one out of reach stops the sweep early.

    Args:
        compressor (type): Compressor class of the task.
        args (dict): Overrides of the configuration; 'speed_up' is the list of targets, 'name' the sweep's.
        callbacks (dict): Callbacks of the training stages.

    Returns:
        (dict): See `compare_targets`, the dense model first; as in sweep.json.

    Raises:
        ValueError: If a target is not valid or out of reach.
        FileNotFoundError: If 'resume' is set and there is no sweep to resume.
    """
    with refusing():
        check({"speed_up": args["speed_up"]})  # every target
        if args.get("save_dir"):
            raise ValueError(
                f"'save_dir={args['save_dir']}' is one folder, and a sweep needs several. Use project and name."
            )
        check_resume_value(args.get("resume"), "the folder of a sweep")
    folder, begun = sweep_folder(args)
    lock(folder)
    try:
        return _sweep(compressor, args, callbacks, folder, begun)
    finally:
        if not any((Path(run) / STAGES_FILE).exists() for run in begun.values()):  # all were refused
            (folder / RUNS_FILE).unlink(missing_ok=True)
        unlock(folder)


def _sweep(
    compressor: type[Compressor], args: dict[str, Any], callbacks: dict, folder: Path, begun: dict[str, str]
) -> dict[str, Any]:
    """Cut to every target, fine-tune every cut and compare them."""
    name, targets = args["name"], sorted(sweep_targets(args["speed_up"]), reverse=True)
    runs: dict[float, Compressor] = {}
    shared: dict[str, Any] = {}
    metrics: dict[str, dict[str, float]] = {}
    sensitivity: list[dict[str, Any]] = []
    for target in targets:
        LOGGER.info(f"{colorstr('sweep:')} cutting to speed_up={target:g}")
        own = {**args, **shared, "speed_up": float(target), "name": f"{name}-{target:g}x-prune", "mode": "compress"}
        if f"{target:g}" not in begun:
            begun[f"{target:g}"] = str(folder_of(own))
            with written_whole(folder / RUNS_FILE) as temporary:
                YAML.save(temporary, begun)
        place = begun[f"{target:g}"]
        own |= {"resume": place} if has_begun(Path(place)) else {"resume": False, "save_dir": place}
        run = runs[target] = compressor(overrides=own, _callbacks=callbacks)
        run.metrics = metrics
        run.known_sensitivity = sensitivity
        run.compress()
        report = json.loads((run.save_dir / REPORT_FILE).read_text(encoding="utf-8"))
        shared, metrics = what_targets_share(report, run.prune_args.prune_method, run.save_dir)
        if "sparse" in metrics or "sparse" not in report["rows"]:
            sensitivity = read_rows(run.save_dir / SENSITIVITY_FILE)
    results: dict[float, dict] = {}
    files: list[dict[str, Any]] = []
    for target in reversed(targets):
        LOGGER.info(f"{colorstr('sweep:')} fine-tuning speed_up={target:g}")
        runs[target].known_files = files
        best = runs[target].finetune()
        results[target] = json.loads((best.parents[1] / REPORT_FILE).read_text(encoding="utf-8"))
        files = results[target].get("deploy", {}).get("rows", [])
        for row in results[target]["rows"].values():
            row["weights"] = str(moved(row["weights"], folder))
    run = runs[targets[0]]
    result = compare_targets(results, MAIN_METRIC[run.args.task], run.args.imgsz, run.device)
    save_sweep(result, folder, run.args.plots)
    return result


def sweep_folder(args: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """Return the folder of a sweep, which need not exist yet, and what it has begun.

    Args:
        args (dict): Overrides of the configuration; 'name' is the sweep's.

    Returns:
        folder (Path): Of the sweep to resume, or one for a new sweep.
        begun (dict[str, str]): Target to the folder of its run.

    Raises:
        FileNotFoundError: If 'resume' is set and there is no such sweep.
    """
    place = {"project": args.get("project"), "task": args["task"], "name": f"{args['name']}-sweep", "mode": "compress"}
    if not args.get("resume"):
        again = bool(args.get("exist_ok"))
        return get_save_dir(SimpleNamespace(**place, exist_ok=again, save_dir=None)), {}
    if folder := find_run(place, RUNS_FILE):
        begun = YAML.load(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else {}
        return folder, {target: str(moved_run(run, folder)) for target, run in begun.items()}
    raise FileNotFoundError(
        f"'resume={args['resume']}' found no sweep to resume with name={args['name']} and project="
        f"{args.get('project')}. Pass the same name and project as before."
    )


def moved_run(run: str, folder: Path) -> Path:
    """Return where the folder of a target's run is, which is beside the sweep's, or was when that was moved.

    Args:
        run (str): Where it was, or will be.
        folder (Path): Folder of the sweep.
    """
    return Path(run) if Path(run).exists() else folder.parent / Path(run).name


def what_targets_share(report: dict, method: str, run: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return what the first target's run has made for the others.

    Args:
        report (dict): Its report.
        method (str): Value of 'prune_method'.
        run (Path): Its folder.

    Returns:
        args (dict): 'model', the dense checkpoint, with 'dense_epochs' behind it, and 'sl_model' if the sparse one
            serves every target.
        metrics (dict): Metrics of these checkpoints.
    """
    rows = report["rows"]
    args, known = {"model": str(moved(rows["dense"]["weights"], run)), "dense_epochs": 0}, ["dense"]
    if "sparse" in rows and not METHODS[method].trains_towards_target:
        args["sl_model"] = str(moved(rows["sparse"]["weights"], run))
        known.append("sparse")
    return args, {name: {k: rows[name][k] for k in report["metrics"]} for name in known}


def compare_targets(results: dict[float, dict], metric: str, imgsz: int, device: torch.device) -> dict[str, Any]:
    """Put the models of all targets side by side, their latencies measured in turns.

    Args:
        results (dict[float, dict]): Target to the report of its fine-tuning.
        metric (str): Name of the main metric.
        imgsz (int): Image size in pixels for the latency.
        device (torch.device): Where the latency is measured.

    Returns:
        (dict): 'schema' (number of this layout), 'versions' (of this package and others), 'metric', 'imgsz' and 'rows',
            one per model, whose latencies are 10th percentiles.
    """
    reports = {"dense": next(iter(results.values())), **{f"{target:g}x": report for target, report in results.items()}}
    last = {name: report["rows"]["dense" if name == "dense" else "fine-tuned"] for name, report in reports.items()}
    files = {name: Path(row["weights"]) for name, row in last.items()}
    models = {name: float_copy(load_checkpoint(file)[0]) for name, file in files.items()}
    latency = measure_latency(models, imgsz, device)
    rows = []
    for name, row in last.items():
        cut = reports[name]["rows"]["dense" if name == "dense" else "pruned"]
        rows.append(
            {
                "model": name,
                "flops_ratio": last["dense"]["gflops"] / row["gflops"],
                "gflops": row["gflops"],
                "parameters": row["parameters"],
                **{f"{runtime}_latency_p10_ms": timings[name].low for runtime, timings in latency.items()},
                f"{metric} after the cut": cut[metric],
                metric: row[metric],
                "weights": row["weights"],
            }
        )
    return {"schema": SCHEMA, "versions": versions(), "metric": metric, "imgsz": imgsz, "rows": rows}


def save_sweep(result: dict[str, Any], folder: Path, plots: bool) -> None:
    """Write sweep.json, sweep.csv and the picture, and log the table and how to deploy the models.

    Args:
        result (dict): What `compare_targets` returned.
        folder (Path): Where they go.
        plots (bool): Draw the picture.
    """
    rows = result["rows"]
    write_json(folder / "sweep.json", result)
    write_csv(folder / "sweep.csv", rows)
    if plots:
        draw_sweep(result, folder / "sweep.png")
    columns = [key for key in rows[0] if key != "weights"]
    lines = ["".join(f"{key:>24}" for key in columns)]
    for row in rows:
        cells = (row[k] if isinstance(row[k], str) else f"{row[k]:,.4g}" for k in columns)
        lines.append("".join(f"{cell:>24}" for cell in cells))
    table = "\n".join(lines)
    LOGGER.info(f"\n{table}\nSweep saved to {colorstr('bold', folder)}")
    metric = result["metric"]
    if worse := [row["model"] for row in rows[1:] if row[metric] < row[f"{metric} after the cut"]]:
        LOGGER.warning(
            f"{', '.join(worse)}: fine-tuning ended below the model straight after the cut. Fine-tune with more "
            "'epochs' or a lower 'lr0'."
        )
    for row in rows[1:]:
        LOGGER.info(f"Deploy {row['model']}, for example: {export_command(row['weights'], result['imgsz'])}")
