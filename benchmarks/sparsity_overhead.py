# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a regulariser adds to a training step: optimizer steps with and without it, taking turns in one run.

    python benchmarks/sparsity_overhead.py --imgsz 320 --batch 16

A training step is one batch through a stock training run of `DetectionSparsifier` (forward, backward, optimizer step,
EMA), yolov8n on the shapes set. Every other step the regulariser is left out; the medians of both kinds are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from fetch import machine, markdown

from ultralytics.engine.compress.checks.training import find_data
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.models.yolo.detect.compress import DetectionSparsifier
from ultralytics.utils import LOGGER


class AlternatingSparsifier(DetectionSparsifier):
    """A sparsity training that regularises every other optimizer step and times all steps."""

    def _setup_train(self) -> None:
        super()._setup_train()
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.penalty: list[float] = []
        self.regularised = False
        self.add_callback("on_train_batch_start", lambda trainer: trainer.begin())
        self.add_callback("on_train_batch_end", lambda trainer: trainer.end())

    def begin(self) -> None:
        """Start the clock of a step of the other kind."""
        self.regularised = not self.regularised
        self.started = self.now()

    def end(self) -> None:
        """Stop the clock."""
        self.seconds[self.regularised].append(self.now() - self.started)

    def now(self) -> float:
        """Return the time when all work so far is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _add_gradients(self, *args) -> None:
        if self.regularised:
            begin = self.now()
            super()._add_gradients(*args)
            self.penalty.append(self.now() - begin)


def measure(method: str, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the median seconds of both kinds of step and of the regulariser by itself."""
    epochs = -(-(2 * (args.steps + args.warmup) * args.batch) // 200)  # 200 training images
    overrides = {
        "model": "yolov8n.yaml",
        "data": find_data("shapes.yaml"),
        "epochs": epochs,
        "imgsz": args.imgsz,
        "batch": args.batch,
        "nbs": args.batch,
        "optimizer": "SGD",
        "prune_method": method,
        "device": args.device,
        "cache": True,
        "val": False,
        "plots": False,
        "workers": 2,
        "project": str(folder),
        "name": method,
    }
    trainer = AlternatingSparsifier(overrides=overrides)
    trainer.train()
    with_it, without = (trainer.seconds[kind][args.warmup :][: args.steps] for kind in (True, False))
    penalty = trainer.penalty[args.warmup :][: args.steps]
    return {name: statistics.median(v) for name, v in (("with", with_it), ("without", without), ("alone", penalty))}


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results as a Markdown table."""
    headings = ["method", "step without (ms)", "step with (ms)", "overhead"]
    headings += ["regulariser alone (ms)", "share of a step"]
    rows = []
    for method, r in results.items():
        cells = [f"{1e3 * r['without']:.1f}", f"{1e3 * r['with']:.1f}", f"{r['with'] / r['without'] - 1:+.1%}"]
        cells += [f"{1e3 * r['alone']:.1f}", f"{r['alone'] / r['without']:.1%}"]
        rows.append([f"`{method}`", *cells])
    return markdown(headings, rows)


def main() -> None:
    """Measure every method that has a regulariser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50, help="steps of each kind that count")
    parser.add_argument("--warmup", type=int, default=5, help="steps of each kind before those")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    methods = [name for name, method in METHODS.items() if method.regulariser]
    with tempfile.TemporaryDirectory() as folder:
        results = {method: measure(method, args, Path(folder)) for method in methods}
    LOGGER.info(f"\n{json.dumps(machine())}, {torch.get_num_threads()} threads, {vars(args)}\n\n{table(results)}")


if __name__ == "__main__":
    main()
