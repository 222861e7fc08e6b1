# SPDX-License-Identifier: AGPL-3.0-or-later
"""What INT8 costs in every runtime: dense and pruned, in float, quantised after training and trained with quantisation.

    python benchmarks/deploy.py --out runs/deploy --models best.pt --data data.yaml
    python benchmarks/deploy.py --out runs/deploy --models yolov8n.yaml yolo26n.yaml --data shapes.yaml --seeds 0 1 2

For every model and seed it is one run of `yolo compress` with `qat_epochs` and `deploy`; a model that is a .yaml is
trained first. A second run of the command goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from experiment import each_once, spread
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.pruning.report.deployed import KINDS, kind_of
from ultralytics.utils import LOGGER

FORMATS = ("onnx-int8", "openvino-int8", "litert-int8", "ncnn")
FIGURES = ("label", "size_mb", "p10_ms", "ratio", "in_float", "error")  # of a row that are kept, beside its metric


def main() -> None:
    """Run every model with every seed, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--models", nargs="+", required=True, help="dense checkpoints, or .yaml files")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40, help="of the training of a .yaml and of every fine-tuning")
    parser.add_argument("--qat-epochs", type=int, default=4)
    parser.add_argument("--speed-up", type=float, default=2.0)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    runs = {
        f"{Path(model).stem}-seed{seed}": partial(deployed, model, seed, out, args)
        for model in args.models
        for seed in args.seeds
    }
    results = each_once(out / "results.json", runs)
    text = "\n\n".join(table(results, key) for key in ("metric", "p10_ms"))
    (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{text}")


def deployed(model: str, seed: int, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the name of the 'model', and the 'rows' of the files of its run."""
    name = f"{Path(model).stem}-seed{seed}"
    run = out / f"{name}-prune"
    yolo = YOLO(model)
    report = yolo.compress(
        data=args.data,
        imgsz=args.imgsz,
        batch=args.batch,
        epochs=args.epochs,
        qat_epochs=args.qat_epochs,
        speed_up=args.speed_up,
        deploy=args.formats,
        seed=seed,
        device=args.device,
        workers=0,
        plots=False,
        project=str(out),
        name=name,
        resume=str(run) if run.exists() else False,
    )
    metric = MAIN_METRIC[yolo.task]
    rows = [
        {"kind": kind_of({**row, "in_float": 0.0}), "metric": row[metric], **{key: row[key] for key in FIGURES}}
        for row in report["deploy"]["rows"]
    ]
    return {"model": Path(model).stem, "rows": rows}


def table(results: dict[str, dict], key: str) -> str:
    """Return one figure of all files as a Markdown table: a line per model and runtime, a column per kind."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for run in results.values():
        for row in run["rows"]:
            kinds = found.setdefault((run["model"], row["label"]), {})
            if row["error"] is None:
                kinds.setdefault(row["kind"], []).append(row[key])
    kinds = [*dict.fromkeys(KINDS.values())]
    lines = [
        [*place, *(spread(values[kind]) if kind in values else "-" for kind in kinds)]
        for place, values in found.items()
    ]
    return markdown(["model", "mAP50-95 in" if key == "metric" else "ms in", *kinds], lines)


if __name__ == "__main__":
    main()
