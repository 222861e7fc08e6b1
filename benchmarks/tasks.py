# SPDX-License-Identifier: AGPL-3.0-or-later
"""One run of the whole pipeline per task, on the sets that draw themselves: base training, 1.5x, fine-tuning, report.

    python benchmarks/tasks.py --out runs/tasks --epochs 15

The model is yolo26n of each task. Results are written after each task, and a second run of the command goes on behind
them.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from experiment import each_once
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.utils import LOGGER

TASKS = {  # model: data
    "yolo26n-cls": "shapes-cls.yaml",
    "yolo26n-sem": "shapes-sem.yaml",
    "yolo26n-pose": "shapes-pose.yaml",
    "yolo26n-obb": "shapes-obb.yaml",
    "yolo26n-seg": "shapes-seg.yaml",
    "yolo26n-depth": "shapes-depth.yaml",
    "yolo26n": "shapes.yaml",
}


def compress(name: str, data: str, args: argparse.Namespace, out: Path) -> dict:
    """Run the pipeline for one task and return its report."""
    return YOLO(f"{name}.yaml").compress(
        data=data,
        speed_up=args.speed_up,
        epochs=args.epochs,
        imgsz=128,
        batch=8,
        nbs=8,
        lr0=0.002,
        optimizer="AdamW",
        mosaic=0.0,
        workers=2,
        plots=False,
        device=args.device,
        project=str(out),
        name=name,
        exist_ok=True,
    )


def table(results: dict[str, dict]) -> str:
    """Return the results as a Markdown table."""
    headings = ["model", "metric", "dense", "after the cut", "fine-tuned"]
    headings += ["FLOPs ratio", "parameters ratio", "latency ratio"]
    lines = []
    for name, report in results.items():
        rows = report["rows"]
        dense, last = rows["dense"], rows["fine-tuned"]
        metric = next(m for m in ("mAP50-95", *report["metrics"]) if m in report["metrics"])
        cells = [name, metric, *(f"{rows[row][metric]:.3f}" for row in ("dense", "pruned", "fine-tuned"))]
        cells += [f"{report['flops_ratio']:.3f}", f"{dense['parameters'] / last['parameters']:.2f}"]
        ratio = report["pytorch_latency_ratio"]
        cells.append("not resolved" if ratio is None else f"{ratio:.2f}")
        lines.append(cells)
    return markdown(headings, lines)


def main() -> None:
    """Run every task, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--epochs", type=int, default=15, help="of the base training and of the fine-tuning")
    parser.add_argument("--speed-up", type=float, default=1.5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = each_once(
        out / "results.json", {name: partial(compress, name, TASKS[name], args, out) for name in args.only}
    )
    (out / "results.md").write_text(f"{table(results)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{table(results)}")


if __name__ == "__main__":
    main()
