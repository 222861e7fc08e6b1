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
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from inspect import unwrap

import torch
from article_loop import prune_by_loop
from fetch import machine, markdown
from torch import nn

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.selection import select_units
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock
from ultralytics.utils import LOGGER

PARTS: dict[str, tuple[Callable, ...]] = {  # name in the table: what `prune_model` calls
    "forms": (prunable_copy, to_stock),
    "graph": (Graph.__init__,),
    "solver": (FlopsFormula.__init__, select_units),
    "cut": (channels_to_keep, cut),
    "verify": (count_flops,),
}


def time_ours(model: nn.Module, speed_up: float, round_to: int) -> dict[str, float]:
    """Return the seconds that `prune_model` takes, in all and in its parts, and the speed-up that it reaches.

    The parts are shares of a second run, since the profiler slows down what it watches.
    """
    budget = Budget(speed_up, round_to=round_to)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    _, record = prune_model(model, budget, prune_method="lamp")
    total, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    profile = cProfile.Profile()
    profile.runcall(prune_model, model, budget, prune_method="lamp")
    parts = {part: total * share for part, share in shares(profile).items()}
    rest = total - sum(parts.values())
    return {"seconds": total, "cpu": cpu, **parts, "scores and rest": rest, "reached": record.reached}


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Return the share of the profiled time that each part took, with all that it calls.

    What one function of the table calls of another one counts for the caller alone.

    Raises:
        RuntimeError: If a function of the table was not called, so that the time of its part would be missing, or if
            parts overlap in another way.
    """
    stats = pstats.Stats(profile)
    places = {part: [place_of(function) for function in functions] for part, functions in PARTS.items()}
    every = {place for part in places.values() for place in part}
    if missing := [name for *_, name in every - stats.stats.keys()]:
        raise RuntimeError(f"prune_model no longer calls {', '.join(missing)}, which PARTS lists")
    found = {part: sum(outermost(stats.stats[p], every) for p in own) / stats.total_tt for part, own in places.items()}
    if (total := sum(found.values())) > 1:
        raise RuntimeError(f"the functions that PARTS lists call each other: their times add up to {total:.0%}")
    return found


def place_of(function: Callable) -> tuple[str, int, str]:
    """Return the key that a function has in a profile."""
    code = unwrap(function).__code__
    return code.co_filename, code.co_firstlineno, code.co_name


def outermost(row: tuple, callers: set[tuple[str, int, str]]) -> float:
    """Return the seconds of a row of a profile, cumulative, less those of calls by some functions."""
    *_, seconds, called_by = row
    return seconds - sum(timing[-1] for caller, timing in called_by.items() if caller in callers)


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
    headings = ["model", "ours (s)", *parts, "reached"]
    headings += ["torch-pruning (s)", "steps", "reached", "ratio", "CPU ratio"]
    rows = []
    for name, result in results.items():
        ours, peer = result["ours"], result.get("peer")
        cells = [name, f"{ours['seconds']:.2f}", *(f"{ours[part]:.2f}" for part in parts), f"{ours['reached']:.3f}"]
        if peer:
            cells += [f"{peer['seconds']:.1f}", f"{peer['steps']}", f"{peer['reached']:.3f}"]
            cells += [f"{peer[k] / ours[k]:.0f}x" for k in ("seconds", "cpu")]
        else:
            cells += ["-"] * 5
        rows.append(cells)
    return markdown(headings, rows)


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
