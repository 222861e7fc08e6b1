# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruning time from start to pruned weights: ours against torch-pruning's loop, validated after each step or not.

    python benchmarks/loop_time.py --out runs/loop_time --imgsz 320

The recipe validates the model after each of up to 200 steps; the validation here is Ultralytics' own on the 21 tiles of
the tree crowns, a very small set.
"""

from __future__ import annotations

import argparse
import json
import time
from copy import deepcopy
from pathlib import Path

import torch
from article_loop import prune_by_loop
from fetch import fetch_railway, machine, markdown
from torch import nn
from tree_crowns import build_data

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import LOGGER


def main() -> None:
    """Time every way once in one process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--speed-up", type=float, default=2.0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = str(build_data(out))
    dense = YOLO(fetch_railway(out)).model
    validation = {"data": data, "imgsz": args.imgsz, "batch": 16, "workers": 0, "device": "cpu", "plots": False}

    def validate(model: nn.Module) -> None:
        # validating fuses the model that is given
        DetectionValidator(args={**validation, "verbose": False, "save_dir": out / "val"})(model=deepcopy(model))

    flops = count_flops(dense)
    begin = time.perf_counter()
    pruned, _ = prune_model(dense, Budget(args.speed_up), prune_method="lamp")
    ours = time.perf_counter() - begin
    rows = [["ours, one cut", "-", f"{flops / count_flops(pruned):.3f}", f"{ours:.2f}", "1x"]]
    for label, after_step in {"torch-pruning's loop": None, "the same, validated after each step": validate}.items():
        begin = time.perf_counter()
        pruned, steps = prune_by_loop(dense, args.speed_up, args.imgsz, after_step)
        seconds = time.perf_counter() - begin
        reached = flops / count_flops(pruned)
        rows.append([label, f"{steps}", f"{reached:.3f}", f"{seconds:.1f}", f"{seconds / ours:.0f}x"])
    table = markdown(["way", "steps", "reached", "seconds", "ratio"], rows)
    LOGGER.info(f"\n{json.dumps(machine())}, {args.imgsz} pixels, {torch.get_num_threads()} threads\n\n{table}")


if __name__ == "__main__":
    main()
