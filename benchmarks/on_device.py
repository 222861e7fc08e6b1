# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budgets in milliseconds on a device: predicted, after the first cut, and after one correction of what missed.

    python benchmarks/on_device.py --out runs/on_device --minutes 40

Every figure is measured by a bundle's measure.py, in a process without PyTorch: on this machine, or with --runner on
the device that it reaches. Rows are appended to results.csv when a model is done in a runtime, and results.md is
written from it; started again, the script goes on with what is missing. A group's L1 norm chooses the channels, because
it needs no data and is not what chose those of the bundle's network of half the FLOPs.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path

import torch
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.engine.compress.device import make_bundle
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.budget.counted import TOLERANCE
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.board.device import describe_device
from ultralytics.engine.pruning.latency.bundle import write_bundle
from ultralytics.engine.pruning.latency.formula import convolutions_time
from ultralytics.engine.pruning.latency.runner import ANYWAY, run_bundle
from ultralytics.engine.pruning.latency.shapes import conv_shapes
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.utils import LOGGER

MODELS = ["yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml", "yolov8s.yaml"]
RUNTIMES = ["onnx", "openvino", "ncnn", "mnn", "openvino-fp16", "litert"]  # exports to LiteRT take longest
TRIPS = ("first", "corrected")
COLUMNS = ["model", "pixels", "runtime", "target", "predicted"]
COLUMNS += [f"{trip} {what}" for trip in TRIPS for what in ("dense ms", "pruned ms", "ratio", "error")]
COLUMNS += ["step", "memory MB", "measuring s", "noisy", "seconds"]
SHOWN = [name for name in COLUMNS if name != "seconds"]
PRUNE_METHOD = "l1"


def main() -> None:
    """Measure what results.csv lacks, as long as there is time."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    table = args.out / "results.csv"
    begin, longest = time.monotonic(), 0.0
    for imgsz in args.imgsz:
        for weights in args.weights:
            for runtime in args.runtimes:
                key = (Path(weights).stem, str(imgsz), runtime)
                if key in {(r["model"], r["pixels"], r["runtime"]) for r in read_rows(table)}:
                    continue
                if args.minutes and time.monotonic() - begin + longest > 60 * args.minutes:
                    LOGGER.info(f"{args.minutes:g} minutes are over before {' '.join(key)}. Start again to go on.")
                    return
                started = time.monotonic()
                rows = measure(saved_model(weights, args.out), imgsz, runtime, args)
                longest = max(longest, time.monotonic() - started)
                append_rows(table, [{**dict(zip(COLUMNS, key)), **row} for row in rows])
                write_markdown(table, args)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and results")
    parser.add_argument("--weights", nargs="+", default=MODELS)
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES, help="runtime, or runtime-precision")
    parser.add_argument("--targets", type=float, nargs="+", default=[1.5, 2.0, 3.0], help="dense over pruned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runner", default="", help="command in front of a shell's on the device")
    parser.add_argument("--clock", default="wall", help="of measure.py: wall, or cpu on a machine with other work")
    parser.add_argument("--minutes", type=float, default=0.0, help="start nothing that would end later; 0 is no limit")
    return parser.parse_args()


def saved_model(weights: str, out: Path) -> Path:
    """Return the .pt file of a model, made once if a .yaml describes it."""
    if not weights.endswith(".yaml"):
        return Path(weights)
    file = out / f"{Path(weights).stem}.pt"
    if not file.exists():
        torch.manual_seed(0)
        yolo = YOLO(weights)
        # activations of a new network vanish into denormals, which some runtimes crawl on
        enliven(yolo.model, yolo.model.predict)
        yolo.save(file)
    return file


def measure(file: Path, imgsz: int, named: str, args: argparse.Namespace) -> list[dict[str, str]]:
    """Return the rows of one model in one runtime, one per target; all targets share a table and two trips."""
    begin = time.monotonic()
    runtime, _, precision = named.partition("-")
    name = f"{file.stem}-{imgsz}-{named}"
    shutil.rmtree(args.out / name, ignore_errors=True)  # of a run that was stopped
    folder = make_bundle(file, runtime, imgsz, precision or "fp32", args.threads, args.out, name)
    first = answer_of(folder, args)
    dense = YOLO(file).model
    content = json.loads(first.read_text(encoding="utf-8"))
    answers = dict.fromkeys(args.targets, first)
    rows: dict[float, dict[str, str]] = {target: {"target": f"{target:g}"} for target in args.targets}
    for trip in TRIPS:
        cuts = {}
        for target, known in answers.items():
            try:
                cuts[target], record = prune_model(
                    dense, Budget(target, budget=str(known), imgsz=imgsz), prune_method=PRUNE_METHOD
                )
            except OutOfReachError as error:
                LOGGER.warning(f"{name}: {error}")
                rows[target][f"{trip} ratio"] = "out of reach"
                continue
            rows[target].setdefault("predicted", f"{record.reached:.2f}")
        if not cuts:
            continue
        cost = AnswerCost(dense, imgsz, str(first))
        found = json.loads(time_together(folder / trip, cost, cuts, args).read_text(encoding="utf-8"))
        times = {key: timing["low"] for key, timing in found["networks"].items()}
        answers = {}
        for target in cuts:
            pruned = f"pruned{target:g}"
            ratio = times["dense"] / times[pruned]
            rows[target].update(
                {
                    f"{trip} dense ms": f"{times['dense']:.2f}",
                    f"{trip} pruned ms": f"{times[pruned]:.2f}",
                    f"{trip} ratio": f"{ratio:.2f}",
                    f"{trip} error": f"{target / ratio - 1:+.1%}",
                    "noisy": " ".join(filter(None, [rows[target].get("noisy", ""), *found["noisy"]])),
                }
            )
            if abs(ratio / target - 1) > TOLERANCE:  # a run leaves others as they are
                answers[target] = folder / f"{trip}-{target:g}.json"
                write_json(answers[target], answer_about(found, pruned))
    step = AnswerCost(dense, imgsz, str(first)).step
    common = {
        "step": str(step),
        "memory MB": str(content["memory_mb"]),
        "measuring s": f"{content['seconds']:.0f}",
        "seconds": f"{time.monotonic() - begin:.0f}",
    }
    return [{**row, **common} for row in rows.values()]


def time_together(folder: Path, cost: AnswerCost, cuts: dict[float, torch.nn.Module], args: argparse.Namespace) -> Path:
    """Return the answer to a bundle of the dense network and those of all targets, which take turns."""
    names = {f"pruned{target:g}": model for target, model in cuts.items()}
    left = {name: conv_shapes(model, cost.answer.imgsz) for name, model in names.items()}
    predicted = {name: convolutions_time(cost.shapes, shapes, cost.table) for name, shapes in left.items()}
    bundle = write_bundle(
        folder,
        cost.answer.runtime,
        {"dense": cost.dense, **names},
        [],
        cost.answer.imgsz,
        precision=cost.answer.precision,
        threads=cost.answer.threads,
        measured=cost.spreads,
        predicted=predicted,
    )
    return answer_of(bundle, args)


def answer_about(content: dict, pruned: str) -> dict:
    """Return an answer as a later trip's bundle with one of its pruned networks alone would have brought it."""
    kept = {"dense": content["networks"]["dense"], "pruned": content["networks"][pruned]}
    return {**content, "networks": kept, "predicted": {"pruned": content["predicted"][pruned]}}


def answer_of(folder: Path, args: argparse.Namespace) -> Path:
    """Measure a bundle and return the file of the answer."""
    file = folder / "answer.json"
    run_bundle(folder, args.runner, (*ANYWAY, "--clock", args.clock), fetched=file)
    return file


def read_rows(table: Path) -> list[dict[str, str]]:
    """Return the rows that are done."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def append_rows(table: Path, rows: list[dict[str, str]]) -> None:
    """Add rows to the CSV file, which gets its headings first."""
    new = not table.exists()
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def write_markdown(table: Path, args: argparse.Namespace) -> None:
    """Write the table of what is done so far, and the machine."""
    rows = [[row[name] for name in SHOWN] for row in read_rows(table)]
    where = f"runner={args.runner}" if args.runner else str(describe_device()["name"])
    place = f"{where}, threads={args.threads}, clock={args.clock}, `{json.dumps(machine())}`"
    (table.parent / "results.md").write_text(f"{place}\n\n{markdown(SHOWN, rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
