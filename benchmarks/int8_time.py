# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a cut is worth in INT8, by what it was made for: FLOPs, milliseconds in FP32, or milliseconds in INT8.

    python benchmarks/int8_time.py --out runs/int8_time

Every cut has the same target, and all networks of a model are timed in turns in one process of ONNX Runtime, in FP32
and in INT8. A group's L1 norm chooses the channels, because it needs no data. Started again, the script goes on.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from experiment import each_once
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.bundle import write_bundle
from ultralytics.engine.pruning.latency.runner import run_bundle
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.utils import LOGGER

CUTS = {"FLOPs": ("flops", "fp32"), "ms in FP32": ("onnx", "fp32"), "ms in INT8": ("onnx", "int8")}
PRECISIONS = ("fp32", "int8")


def measure(name: str, imgsz: int, speed_up: float, folder: Path) -> dict[str, dict[str, float]]:
    """Return the 10th percentiles in ms of the dense model and of each cut by precision, and each one's FLOPs."""
    dense = YOLO(f"{name}.yaml").model.eval()
    enliven(dense, dense)
    networks, gflops = {"dense": dense}, {}
    for cut, (budget, precision) in CUTS.items():
        target = Budget(speed_up, budget, imgsz=imgsz, precision=precision)
        networks[cut], record = prune_model(dense, target, prune_method="l1")
        gflops |= {"dense": record.gflops["dense"], cut: record.gflops["pruned"]}
    found: dict[str, dict[str, float]] = {"gflops": gflops}
    for precision in PRECISIONS:
        bundle = write_bundle(folder / f"{name}-{precision}", "onnx", networks, [], imgsz, precision=precision)
        found[precision] = {cut: timing.low for cut, timing in run_bundle(bundle, "").networks.items()}
    return found


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the ratios of each model and cut."""
    rows = []
    for name, found in results.items():
        for cut in CUTS:
            ratios = [f"{found[key]['dense'] / found[key][cut]:.2f}x" for key in ("gflops", *PRECISIONS)]
            times = [f"{found[key]['dense']:.2f} / {found[key][cut]:.2f}" for key in PRECISIONS]
            rows.append([name, cut, *ratios, *times])
    heads = ["FLOPs", "FP32", "INT8", "FP32, dense / cut (ms)", "INT8, dense / cut (ms)"]
    return markdown(["model", "cut for", *heads], rows)


def main() -> None:
    """Measure what results.json lacks, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and results")
    parser.add_argument("--models", nargs="+", default=["yolov8n", "yolo11n", "yolo26n", "yolov8s"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--speed-up", type=float, default=2.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    about = {**machine(), "imgsz": args.imgsz, "speed_up": args.speed_up}
    make = {name: partial(measure, name, args.imgsz, args.speed_up, args.out) for name in args.models}
    results = each_once(args.out / "results.json", make)
    (args.out / "results.md").write_text(f"{table(results)}\n", encoding="utf-8")
    LOGGER.info(f"{json.dumps(about)}\n\n{table(results)}")


if __name__ == "__main__":
    main()
