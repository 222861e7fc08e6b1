# SPDX-License-Identifier: AGPL-3.0-or-later
"""Rows of the zoo from what `peers.py` has trained: this package's models and the dense ones, timed side by side.

    python benchmarks/zoo_of_peers.py --peers runs/peers_cells --name "BCCD, yolov8n" --command "python ..." --out zoo

Several folders are read as seeds of one model. Timed are the models of every seed, in turns, so the machine should have
no other work. Written are zoo.md, a row for each target, and zoo.csv, a line for each training: its log.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from experiment import spread
from fetch import machine, markdown

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.files import sha256, written_whole
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_latency
from ultralytics.engine.pruning.latency.pytorch import pytorch_latency
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_num_params

KINDS = ("dense", "longer", "ours")  # of the trainings of `peers.py`, in the order of the rows
METRIC = "mAP50-95"
TIMED = {"ONNX Runtime": "onnx_ms", "PyTorch": "pytorch_ms"}


def main() -> None:
    """Time the models, and write zoo.md and zoo.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, nargs="+", required=True, help="folders of `peers.py`")
    parser.add_argument("--out", type=Path, required=True, help="folder of zoo.md and zoo.csv")
    parser.add_argument("--name", required=True, help="of the data and the model, for the heading")
    parser.add_argument("--command", required=True, help="that has trained the models")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in args.peers]
    settings = found[0]["about"]["settings"]
    rows = sorted(
        (row for results in found for row in trainings(results["runs"])),
        key=lambda row: (KINDS.index(row["model"].partition(" ")[0]), row["model"], row["seed"]),
    )
    rows = [row for seed in sorted({row["seed"] for row in rows}) for row in timed(rows, seed, settings["imgsz"])]
    args.out.mkdir(parents=True, exist_ok=True)
    with written_whole(args.out / "zoo.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = describe(rows, args.name, args.command, settings["imgsz"], args.threads)
    (args.out / "zoo.md").write_text(text, encoding="utf-8")
    LOGGER.info(text)


def trainings(runs: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the model, the seed and the figures of every training of a dense model or of this package.

    Args:
        runs (dict[str, dict]): Name to training, as `peers.py` writes them.
    """
    for name, run in runs.items():
        model, _, seed = name.rpartition("-seed")
        kind, _, target = model.partition("-")
        if kind not in KINDS:
            continue
        weights = Path(run["weights"])
        report = weights.parents[1] / "report.json"
        row = {"model": f"{kind} {target}x" if target else kind, "seed": int(seed), METRIC: run[METRIC]}
        row |= {"after the cut": None, "passed dense in epoch": None, "minutes": run["minutes"]}
        if report.exists():
            told = json.loads(report.read_text(encoding="utf-8"))
            passed = told["passed_dense"] and told["passed_dense"]["epoch"]
            row |= {"after the cut": told["rows"]["pruned"][METRIC], "passed dense in epoch": passed}
        yield {**row, "weights": str(weights)}


def timed(rows: list[dict[str, Any]], seed: int, imgsz: int) -> list[dict[str, Any]]:
    """Return the rows of one seed, with what their models cost; they were timed in turns."""
    rows = [row for row in rows if row["seed"] == seed]
    models = {row["model"]: load_checkpoint(row["weights"])[0] for row in rows}
    timings = {
        "onnx_ms": onnx_latency(models, imgsz),
        "pytorch_ms": pytorch_latency(models, imgsz, torch.device("cpu")),
    }
    made = []
    for row in rows:
        model = models[row["model"]]
        cost = {"gflops": count_flops(model), "parameters": get_num_params(model)}
        cost |= {key: by_model[row["model"]].low for key, by_model in timings.items()}
        file = row["weights"]
        made.append({**{k: v for k, v in row.items() if k != "weights"}, **cost, "sha256": sha256(Path(file))})
    return made


def describe(rows: list[dict[str, Any]], name: str, command: str, imgsz: int, threads: int) -> str:
    """Return the rows as Markdown, seeds together."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(row["model"], []).append(row)
    headings = ["model", "seeds", METRIC, "after the cut", "passed dense in epoch", "GFLOPs", "million parameters"]
    headings += [f"{runtime}, ms (dense / this)" for runtime in TIMED]
    dense = {row["seed"]: row for row in alike["dense"]}
    table = []
    for model, seeds in alike.items():
        cuts = [row["after the cut"] for row in seeds if row["after the cut"] is not None]
        passed = [str(row["passed dense in epoch"] or "none") for row in seeds]
        cost = [f"{mean(row['gflops'] for row in seeds):.2f}", f"{mean(row['parameters'] for row in seeds) / 1e6:.2f}"]
        times = [
            f"{mean(row[key] for row in seeds):.2f} ({mean(dense[row['seed']][key] / row[key] for row in seeds):.2f}x)"
            for key in TIMED.values()
        ]
        cells = [model, ", ".join(str(row["seed"]) for row in seeds), spread([row[METRIC] for row in seeds])]
        table.append([*cells, spread(cuts) if cuts else "", ", ".join(passed) if cuts else "", *cost, *times])
    about = ", ".join(f"{key}: {value}" for key, value in machine().items())
    return "\n".join(
        [
            f"## {name}, {imgsz} pixels\n",
            f"```bash\n{command}\n```\n",
            f"{markdown(headings, table)}\n",
            f"Mean, and range over the seeds; {threads} threads, 10th percentiles. {about}.\n",
        ]
    )


if __name__ == "__main__":
    main()
