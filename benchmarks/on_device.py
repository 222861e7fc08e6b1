# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budgets in milliseconds on a device: predicted, after the first cut, and after one correction, per runtime.

    python benchmarks/on_device.py --weights yolov8n.yaml yolo11n.yaml --imgsz 320 640 --out runs/on_device

Every figure is measured by a bundle's measure.py, in a process without PyTorch: on this machine, or with --runner on
the device that it reaches. LAMP chooses the channels, because it needs no data.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.engine.compress.device import make_bundle
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.answer import read_answer
from ultralytics.engine.pruning.latency.networks import EXPORTS
from ultralytics.engine.pruning.latency.runner import run_bundle
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.utils import LOGGER

HEADINGS = ["model", "pixels", "runtime", "target", "predicted", "dense / first cut (ms)", "first cut", "error"]
HEADINGS += ["dense / corrected (ms)", "corrected", "error", "memory of measure.py (MB)"]


def main() -> None:
    """Measure every model in every runtime, prune it to every target, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and results")
    parser.add_argument(
        "--weights", nargs="+", default=["yolov8n.yaml", "yolov8s.yaml", "yolo11n.yaml", "yolo26n.yaml"]
    )
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--runtimes", nargs="+", default=list(EXPORTS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--targets", type=float, nargs="+", default=[1.5, 2.0, 3.0], help="dense over pruned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runner", default="", help="command in front of a shell's on the device")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    rows: list[list[str]] = []
    for weights in args.weights:
        yolo = YOLO(weights)
        if weights.endswith(
            ".yaml"
        ):  # activations of a new network vanish into denormals, which some runtimes crawl on
            enliven(yolo.model, yolo.model.predict)
        file = args.out / f"{Path(weights).stem}.pt"
        yolo.save(file)
        for imgsz in args.imgsz:
            for runtime in args.runtimes:
                for row in measure(file, imgsz, runtime, args):
                    rows.append([file.stem, str(imgsz), runtime, *row])
                    (args.out / "results.md").write_text(f"{markdown(HEADINGS, rows)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}, {args.threads} threads, {args.precision}\n\n{markdown(HEADINGS, rows)}")


def measure(file: Path, imgsz: int, runtime: str, args: argparse.Namespace) -> list[list[str]]:
    """Return the cells of one model in one runtime, a row per target."""
    folder = make_bundle(file, runtime, imgsz, args.precision, args.threads, args.out, f"{file.stem}-{imgsz}-{runtime}")
    answer = answer_of(folder, args.runner)
    memory = json.loads(answer.read_text(encoding="utf-8"))["memory_mb"]
    dense = YOLO(file).model
    rows = []
    for ratio in args.targets:
        cells: list[str] = []
        known = answer
        for trip in ("first", "corrected"):
            budget = Budget(ratio, budget=str(known), imgsz=imgsz)
            try:
                pruned, record = prune_model(dense, budget, prune_method="lamp")
            except OutOfReachError as error:
                LOGGER.warning(f"{file.stem} in {runtime}: {error}")
                cells += ["out of reach"] * (4 if trip == "first" else 3)
                continue
            place = folder / f"{ratio:g}x-{trip}"
            known = answer_of(AnswerCost(dense, imgsz, str(known)).next_bundle(place, pruned), args.runner)
            # side by side: the dense network takes longer on one trip than on another
            times = read_answer(known).networks
            found = times["dense"].low / times["pruned"].low
            cells += [f"{record.reached:.2f}x"] if trip == "first" else []
            cells += [
                f"{times['dense'].low:.2f} / {times['pruned'].low:.2f}",
                f"{found:.2f}x",
                f"{ratio / found - 1:+.1%}",
            ]
        rows.append([f"{ratio:g}x", *cells, str(memory)])
    return rows


def answer_of(folder: Path, runner: str) -> Path:
    """Measure a bundle and return the file of the answer."""
    file = folder / "answer.json"
    run_bundle(folder, runner, fetched=file)
    return file


if __name__ == "__main__":
    main()
