# SPDX-License-Identifier: AGPL-3.0-or-later
"""Budgets in milliseconds of this machine: what the first cut came to, and the one that a run keeps.

    python benchmarks/on_this_machine.py --out runs/on_this_machine --runtime pytorch

A run measures every cut beside the dense model and cuts anew until one is within the tolerance. All that it kept are
timed in turns once more. A group's L1 norm chooses the channels, because it needs no data.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from pathlib import Path

import torch
from fetch import machine, markdown
from on_device import MODELS, PRUNE_METHOD, saved_model

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import select_device

MISSED = re.compile(r"^Speed-up ([\d.]+) in ")  # what a run logs of a cut that it makes anew
HEADINGS = ["model", "pixels", "dense (ms)", "target", "first cut", "kept", "cuts", "timed again"]


def main() -> None:
    """Prune every model to every target, time them, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--weights", nargs="+", default=MODELS)
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), default="pytorch")
    parser.add_argument("--targets", type=float, nargs="+", default=[1.5, 2.0, 3.0], help="dense over pruned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    rows: list[list[str]] = []
    for imgsz in args.imgsz:
        for weights in args.weights:
            rows += measure(saved_model(weights, args.out), imgsz, args)
            (args.out / "results.md").write_text(f"{markdown(HEADINGS, rows)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}, {args.threads} threads\n\n{markdown(HEADINGS, rows)}")


def measure(file: Path, imgsz: int, args: argparse.Namespace) -> list[list[str]]:
    """Return the rows of a model at an image size, one per target."""
    device = select_device(args.device, verbose=False)
    dense = YOLO(file).model.to(device)
    models, missed = {"dense": dense}, {}
    for target in args.targets:
        listener = Listener()
        LOGGER.addHandler(listener)
        try:
            budget = Budget(target, budget=args.runtime, imgsz=imgsz)
            models[f"{target:g}"], record = prune_model(dense, budget, prune_method=PRUNE_METHOD)
            missed[target] = [*listener.found, record.reached]
        except OutOfReachError as error:
            LOGGER.warning(f"{file.stem}: {error}")
        finally:
            LOGGER.removeHandler(listener)
    times = {name: timing.low for name, timing in RUNTIMES[args.runtime].time_models(models, imgsz, device).items()}
    rows = []
    for target in args.targets:
        line = [file.stem, str(imgsz), f"{times['dense']:.2f}", f"{target:g}"]
        if target in missed:
            cuts, again = missed[target], times["dense"] / times[f"{target:g}"]
            line += [f"{cuts[0]:.2f}", f"{cuts[-1]:.2f}", str(len(cuts)), f"{again:.2f}"]
        rows.append(line if target in missed else [*line, "none", "", "", ""])
    return rows


class Listener(logging.Handler):
    """Notes the ratios of cuts that are made anew.

    Attributes:
        found (list[float]): Times that each was faster than the dense model.
    """

    def __init__(self):
        """Listen to everything."""
        super().__init__()
        self.found: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note the ratio of a message that has one."""
        if found := MISSED.match(record.getMessage()):
            self.found.append(float(found[1]))


if __name__ == "__main__":
    main()
