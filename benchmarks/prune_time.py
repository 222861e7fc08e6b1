# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruning time without validation: `prune_model` against torch-pruning's own loop of 200 steps, in one process.

    python benchmarks/prune_time.py --models yolov8n yolov8s yolov8x --speed-up 2.0

Both get the same network, LAMP, global ranking, the same protected layers and the same target. torch-pruning's loop
has to be given our prunable form of the network, because it does not come to an end on the stock one. It stops at its
first step whose MACs meet the target, and it counts them after each step at --peer-imgsz. Times are wall clock; the
ratio of processor times is printed as well, for machines that have other work to do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from article_loop import prune_by_loop
from fetch import machine
from torch import nn

from ultralytics import YOLO
from ultralytics.engine.pruning import prune
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.utils import LOGGER

PARTS = {  # name in the table: functions that `prune_model` calls
    "forms": ("prunable_copy", "to_stock"),
    "graph": ("Graph",),
    "solver": ("FlopsFormula", "select_units"),
    "cut": ("channels_to_keep", "cut"),
    "verify": ("count_flops",),
}


def time_ours(model: nn.Module, speed_up: float, round_to: int) -> dict[str, float]:
    """Return the seconds that `prune_model` takes, in all and in its parts, and the speed-up that it reaches."""
    parts = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as stack:
        for part, functions in PARTS.items():
            for function in functions:
                stack.enter_context(timed(function, part, parts))
        begin, begin_cpu = time.perf_counter(), time.process_time()
        _, record = prune.prune_model(model, Budget(speed_up, round_to=round_to), prune_method="lamp")
        total, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    rest = total - sum(parts.values())
    return {"seconds": total, "cpu": cpu, **parts, "scores and rest": rest, "reached": record.reached}


@contextmanager
def timed(function: str, part: str, parts: dict[str, float]) -> Iterator[None]:
    """Add the time that a function of the pruning module takes to a part."""
    original = getattr(prune, function)

    def run(*args, **kwargs):
        begin = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            parts[part] += time.perf_counter() - begin

    with patch.object(prune, function, run):
        yield


def time_peer(model: nn.Module, speed_up: float, imgsz: int) -> dict[str, float]:
    """Return the seconds and steps that torch-pruning's loop takes to the target, and the speed-up that it reaches."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    pruned, steps = prune_by_loop(model, speed_up, imgsz)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    return {"seconds": seconds, "cpu": cpu, "steps": steps, "reached": count_flops(model) / count_flops(pruned)}


def compare(name: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Time one model: ours as the median of some repetitions, the peer once."""
    model = YOLO(f"{name}.yaml").model
    runs = sorted((time_ours(model, args.speed_up, args.round_to) for _ in range(args.repeats)), key=seconds_of)
    result = {"ours": runs[len(runs) // 2]}
    if args.peer_all or not name.endswith("x"):
        result["peer"] = time_peer(model, args.speed_up, args.peer_imgsz)
    return result


def seconds_of(run: dict[str, float]) -> float:
    """Return the total of one timing."""
    return run["seconds"]


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the results as a Markdown table."""
    parts = [*PARTS, "scores and rest"]
    lines = [
        f"| model | ours (s) | {' | '.join(parts)} | reached "
        "| torch-pruning (s) | steps | reached | ratio | CPU ratio |",
        "|---" * (len(parts) + 8) + "|",
    ]
    for name, result in results.items():
        ours, peer = result["ours"], result.get("peer")
        cells = [name, f"{ours['seconds']:.2f}", *(f"{ours[part]:.2f}" for part in parts), f"{ours['reached']:.3f}"]
        if peer:
            cells += [f"{peer['seconds']:.1f}", f"{peer['steps']}", f"{peer['reached']:.3f}"]
            cells += [f"{peer[k] / ours[k]:.0f}x" for k in ("seconds", "cpu")]
        else:
            cells += ["-"] * 5
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Time every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["yolov8n", "yolov8s", "yolov8x"], help="names of model YAMLs")
    parser.add_argument("--speed-up", type=float, default=2.0)
    parser.add_argument("--round-to", type=int, default=1, help="ours only; torch-pruning's loop does not round")
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the median counts")
    parser.add_argument("--peer-imgsz", type=int, default=64, help="image size of torch-pruning's MAC counts")
    parser.add_argument("--peer-all", action="store_true", help="run torch-pruning's loop on the x models as well")
    args = parser.parse_args()
    results = {name: compare(name, args) for name in args.models}
    LOGGER.info(f"\n{json.dumps(machine())}, {torch.get_num_threads()} threads\n\n{table(results)}")


if __name__ == "__main__":
    main()
