# SPDX-License-Identifier: AGPL-3.0-or-later
"""A budget in time, solved by importance per millisecond or by importance alone, straight after the cut.

    python benchmarks/time_ranking.py --data trees --out runs/time_trees
    python benchmarks/time_ranking.py --data shapes --out runs/time_shapes

Both ways cut the same dense model down to the same predicted time in ONNX Runtime, without the package's corrections
by measurement, so that they differ in nothing but what they remove. It wants a quiet machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment import SETTINGS, Experiment, settings_of, spread
from fetch import fetch_railway, machine

from ultralytics.engine.pruning.budget import solve_budget
from ultralytics.engine.pruning.costs import COSTS, OnnxCost
from ultralytics.utils import LOGGER


class PerMillisecond(OnnxCost):
    """The package's cost, without corrections."""

    tolerance = None


class Alone(PerMillisecond):
    """The same, met by the ranking that a budget in FLOPs has."""

    solve = staticmethod(solve_budget)


WAYS = {"importance per millisecond": PerMillisecond, "importance alone": Alone}


def main() -> None:
    """Train dense models, cut them both ways, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--data", choices=tuple(SETTINGS), default="trees")
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[1.7, 2.0, 2.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    trees = args.data == "trees"
    settings = settings_of(args.data, out)
    experiment = Experiment(out, settings, {**machine(), "settings": settings})
    start = str(fetch_railway(out)) if trees else "yolov8n.yaml"

    runs: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for seed in args.seeds:
        name = f"dense-seed{seed}"
        dense = experiment.once(name, lambda: experiment.train(name, start, seed))["weights"]
        for speed_up in args.speed_ups:
            keys = {"prune_method": "group_taylor", "budget": "onnx", "speed_up": speed_up}
            for way, cost in WAYS.items():
                COSTS["onnx"] = cost
                cut = f"{speed_up:g}-{way.replace(' ', '-')}-seed{seed}"
                run = experiment.once(cut, lambda: experiment.prune(cut, dense, seed, **keys))
                runs.setdefault((speed_up, way), []).append(run)

    lines = ["| predicted | by | mAP50-95 after the cut | FLOPs ratio | measured |", "|---" * 5 + "|"]
    for (speed_up, way), found in runs.items():
        accuracy = spread([run["pruned"]["mAP50-95"] for run in found])
        ratios = (f"{spread([run[key] for run in found])}" for key in ("speed_up", "onnx_latency_speed_up"))
        lines.append(f"| {speed_up:g}x | {way} | {accuracy} | {' | '.join(ratios)} |")
    markdown = "\n".join(lines)
    (out / "results.md").write_text(f"{markdown}\n", encoding="utf-8")
    LOGGER.info(markdown)


if __name__ == "__main__":
    main()
