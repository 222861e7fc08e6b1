# SPDX-License-Identifier: AGPL-3.0-or-later
"""What INT8 costs in every runtime: dense and pruned, in float, quantised after training and trained with quantisation.

    python benchmarks/deploy.py --out runs/deploy --models best.pt --data data.yaml
    python benchmarks/deploy.py --out runs/deploy --models yolov8n.yaml yolo26n.yaml --data shapes.yaml --seeds 0 1 2
    python benchmarks/deploy.py --out runs/deploy_trees --models yolov8n yolo11n yolo26n --data trees --seeds 0 1 2
    python benchmarks/deploy.py --out runs/deploy_cells --models yolov8n --data cells --bccd BCCD_Dataset --imgsz 192

For every model and seed it is one run of `yolo compress` with `qat_epochs` and `deploy`. A model that is a .yaml is
trained first, and so is one that is a name, for tree crowns and blood cells, from a start that packages carry. A second
run of the command goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiment import Experiment, settings_of, spread
from fetch import STARTS, machine, markdown

from ultralytics import YOLO
from ultralytics.engine.compress.evaluation import MAIN_METRIC
from ultralytics.engine.pruning.report.deployed import KINDS, kind_of
from ultralytics.utils import LOGGER

FORMATS = ("onnx-int8", "openvino-int8", "litert-int8", "ncnn")
DRAWN = {"imgsz": 128, "batch": 16, "epochs": 40, "plots": False, "workers": 0}
FIGURES = ("label", "size_mb", "p10_ms", "ratio", "in_float", "error")  # of a row that are kept, beside its metric


def main() -> None:
    """Run every model with every seed, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--models", nargs="+", required=True, help=f"checkpoints, .yaml files, or of {[*STARTS]}")
    parser.add_argument("--data", default="shapes.yaml", help="'trees', 'cells', or a data set's .yaml")
    parser.add_argument("--bccd", type=Path, help="folder of a clone of Shenggan/BCCD_Dataset, for the blood cells")
    parser.add_argument("--imgsz", type=int, help="default: 128, for photographs that of peers.py")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dense-epochs", type=int, default=40, help="of the training of a model that is a name")
    parser.add_argument("--epochs", type=int, help="of the training of a .yaml and of every fine-tuning")
    parser.add_argument("--qat-epochs", type=int, default=4)
    parser.add_argument("--speed-up", type=float, default=2.0)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    photographs = args.data in {"trees", "cells"}
    if unknown := photographs and [model for model in args.models if model not in STARTS]:
        parser.error(f"--models {' '.join(unknown)}: photographs have trained starts for {', '.join(STARTS)}")
    settings = settings_of(args.data, out, bccd=args.bccd) if photographs else {"data": args.data, **DRAWN}
    given = {key: getattr(args, key) for key in ("imgsz", "batch", "epochs", "device")}
    settings |= {key: value for key, value in given.items() if value is not None} | {"project": str(out)}
    about = {**machine(), "settings": settings, "dense_epochs": args.dense_epochs, "qat_epochs": args.qat_epochs}
    experiment = Experiment(out, settings, {**about, "speed_up": args.speed_up, "formats": args.formats})
    for seed in args.seeds:
        for model in args.models:
            name = f"{Path(model).stem}-seed{seed}"
            source = trained(model, seed, experiment, args.dense_epochs) if photographs else model
            experiment.once(name, lambda: deployed(source, name, seed, experiment, args))
            text = "\n\n".join(table(experiment.results["runs"], key) for key in ("metric", "p10_ms"))
            (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{text}")


def trained(model: str, seed: int, experiment: Experiment, epochs: int) -> str:
    """Return the checkpoint of the dense model of a name, trained from its start."""
    start, name = STARTS[model](experiment.out), f"dense-{model}-seed{seed}"
    return experiment.once(name, lambda: experiment.train(name, start, seed, epochs=epochs))["weights"]


def deployed(source: str, name: str, seed: int, experiment: Experiment, args: argparse.Namespace) -> dict[str, Any]:
    """Return the name of the 'model', and the 'rows' of the files of its run."""
    run = experiment.out / f"{name}-prune"
    yolo = YOLO(source)
    settings = {key: value for key, value in experiment.settings.items() if key != "exist_ok"}
    own = {"qat_epochs": args.qat_epochs, "speed_up": args.speed_up, "deploy": args.formats, "seed": seed, "name": name}
    report = yolo.compress(**settings, **own, resume=str(run) if run.exists() else False)
    metric = MAIN_METRIC[yolo.task]
    rows = [
        {"kind": kind_of({**row, "in_float": 0.0}), "metric": row[metric], **{key: row[key] for key in FIGURES}}
        for row in report["deploy"]["rows"]
    ]
    return {"model": name.rpartition("-seed")[0], "rows": rows}


def table(results: dict[str, dict], key: str) -> str:
    """Return one figure of all files as a Markdown table: a line per model and runtime, a column per kind."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for run in results.values():
        for row in run.get("rows", []):  # the trainings of the dense models have none
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
