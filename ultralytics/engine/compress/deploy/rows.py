# SPDX-License-Identifier: AGPL-3.0-or-later
"""A row per file of a deploy stage: exported, validated in its own runtime and compared with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.engine.compress.deploy.accuracy import agreement, predictions, validate_file, validation_pictures
from ultralytics.engine.compress.deploy.export import export
from ultralytics.engine.compress.deploy.formats import known_formats
from ultralytics.engine.compress.deploy.quantisers import QUANTISERS
from ultralytics.engine.compress.deploy.relief import Relief
from ultralytics.engine.compress.deploy.targets import Target
from ultralytics.engine.compress.evaluation import TASK_METRICS
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.files import sha256, write_json
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.engine.pruning.report.deployed import IN_FLOAT
from ultralytics.utils import LOGGER, colorstr

KEY = ("model", "target", "weights_sha256")  # of a row
ROWS_FILE = "rows.json"  # for a run that is resumed
SHARES = (0.1, 0.25, 0.5)  # shares of the layers that INT8 is taken off, one after the other, if it costs too much
THROUGHOUT = 0.0  # the share of a file that is all INT8
AGREEMENT_PICTURES = 50


def make_rows(
    run: StockTrainer,
    models: dict[str, Path],
    targets: Sequence[Target],
    folder: Path,
    metric: str,
    elsewhere: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return a row per file, which is exported and validated now, or was by an earlier start of the run.

    Args:
        run (StockTrainer): A `Compressor` or `Finetuner`, which has data set and arguments.
        models (dict[str, Path]): Name of the model to checkpoint.
        targets (Sequence[Target]): What each is exported to, a float target before its quantised ones.
        folder (Path): Where the files go.
        metric (str): Name of the main metric.
        elsewhere (Sequence[dict[str, Any]]): Rows of another run, whose files serve for the same checkpoints.

    Returns:
        (list[dict[str, Any]]): Rows; 'error' is None or why there is no file, or none that works.
    """
    record = folder / ROWS_FILE
    earlier = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    known = [*earlier, *elsewhere]
    digests = {name: sha256(file) for name, file in models.items()}
    rows: list[dict[str, Any]] = []
    for target in targets:
        for name, weights in models.items():
            if name in IN_FLOAT and not target.is_int8:
                continue  # its float file is that of the other model
            key = dict(zip(KEY, (name, target.name, digests[name])))
            row = next((r for r in known if key.items() <= r.items() and _is_whole(r)), None)
            if row is None:
                own = folder / target.name / name
                row = _make(run, weights, key, target, own)
                row = _relieved(run, weights, row, target, rows, metric, own)
            rows.append(row)
            reached = [[r[k] for k in KEY] for r in rows]  # files behind it are there for another start of the run
            write_json(record, [*rows, *(r for r in earlier if [r[k] for k in KEY] not in reached)])
    return rows


def _is_whole(row: dict[str, Any]) -> bool:
    """Return True for a row whose file is there."""
    return row["error"] is None and Path(row["file"]).exists()


def _relieved(
    run: StockTrainer,
    weights: Path,
    row: dict[str, Any],
    target: Target,
    rows: list[dict[str, Any]],
    metric: str,
    folder: Path,
) -> dict[str, Any]:
    """Return a row, made anew with more and more layers in float as long as INT8 costs more than 'int8_drop'.

    If it does with all shares, the smallest of them is taken that comes within 'int8_drop' of the best.
    """
    if row["quantised"] not in {"calibrated", "recalibrated"} or target.format not in QUANTISERS:
        return row
    key = {name: row[name] for name in KEY}
    model = IN_FLOAT.get(row["model"], row["model"])
    twin = next((r for r in rows if (r["model"], r["target"]) == (model, row["float_target"])), None)
    if twin is None or twin["error"]:
        return row
    relief = Relief(lambda file: _metrics(run, file, target)[metric])

    def made(share: float) -> dict[str, Any]:
        stay = f"the {share:.0%} of the layers that lose most stay in float" if share else "all layers are INT8 again"
        LOGGER.info(f"{colorstr('deploy:')} {stay}")
        relief.share = share
        return _make(run, weights, key, target, folder, relief)

    allowed = run.prune_args.int8_drop
    drops: dict[float, float] = {}
    for share in (THROUGHOUT, *SHARES):
        row = made(share) if share else row
        if row["error"]:
            break
        drops[share] = twin[metric] - row[metric]
        if drops[share] <= allowed:
            return row
        LOGGER.info(f"{colorstr('deploy:')} INT8 costs {drops[share]:.4f} {metric}")
    chosen = min((share for share, drop in drops.items() if drop <= min(drops.values()) + allowed), default=None)
    return row if chosen is None or (chosen == relief.share and not row["error"]) else made(chosen)


def _metrics(run: StockTrainer, file: Path, target: Target) -> dict[str, float]:
    """Return the metrics of a file that is thrown away."""
    with warnings_only():
        return validate_file(file, target.format, run.args, run.device, file if file.is_dir() else file.parent)[0]


def _make(
    run: StockTrainer, weights: Path, key: dict[str, str], target: Target, folder: Path, relief: Relief | None = None
) -> dict[str, Any]:
    """Export, validate and compare with PyTorch; whatever a converter or runtime raises goes into the row."""
    relief = relief or Relief()
    LOGGER.info(f"{colorstr('deploy:')} {key['model']} model to {target.name}")
    row: dict[str, Any] = {
        **key,
        "format": target.format,
        "label": known_formats()[target.format].label,
        "quantize": target.quantize,
        "float_target": target.in_float().name,
        "quantised": "",
        "in_float": relief.share,
        "file": None,
        "size_mb": None,
        **dict.fromkeys(TASK_METRICS[run.args.task]),
        "agreement": None,
        **dict.fromkeys(("p10_ms", "p50_ms", "p90_ms", "ratio", "threads", "precision", "error")),
        "classes": {},
    }
    with noted(row):
        file, row["quantised"] = export(weights, key["model"], target, run.args, run.device, folder, relief)
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


def size_of(file: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in file.rglob("*") if f.is_file()) if file.is_dir() else file.stat().st_size
