# SPDX-License-Identifier: AGPL-3.0-or-later
"""What keeps the accuracy: batch norms measured anew after the cut, and distillation while fine-tuning.

    python benchmarks/keep_accuracy.py --data trees --out runs/keep_trees
    python benchmarks/keep_accuracy.py --data shapes --out runs/keep_shapes --dense-epochs 25 75

Each cut of the dense model is fine-tuned with and without distillation from the same weights. Results are written after
each training, and a second run of the command goes on behind the trainings that are complete.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment import SETTINGS, Experiment, spread
from fetch import fetch_railway, machine
from tree_crowns import build_data

from ultralytics.engine.compress_checks import find_data
from ultralytics.utils import LOGGER

ARMS: dict[str, dict[str, Any]] = {  # name: what is switched on
    "neither": {"recalibrate": False, "distill": False},
    "recalibrated": {"recalibrate": True, "distill": False},
    "distilled": {"recalibrate": False, "distill": True},
    "both": {"recalibrate": True, "distill": True},
}


def main() -> None:
    """Train, prune by every arm, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--data", choices=tuple(SETTINGS), default="trees")
    parser.add_argument(
        "--dense-epochs", type=int, nargs="+", help="epochs of the dense trainings, one after the other"
    )
    parser.add_argument("--epochs", type=int, help="epochs of every fine-tuning")
    parser.add_argument("--methods", nargs="+", default=["lamp", "group_taylor"])
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the fine-tuning")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    trees = args.data == "trees"
    settings = {**SETTINGS[args.data], "device": args.device, "project": str(out / "runs")}
    settings["data"] = str(build_data(out)[0]) if trees else find_data("shapes.yaml")
    settings["epochs"] = args.epochs or settings["epochs"]
    experiment = Experiment(out, settings, {**machine(), "settings": settings, "dense_epochs": args.dense_epochs})

    dense = str(fetch_railway(out)) if trees else "yolov8n.yaml"
    for i, epochs in enumerate(args.dense_epochs or [settings["epochs"]]):
        found = experiment.once(f"dense-{i}", lambda: experiment.train(f"dense-{i}", dense, 0, epochs=epochs))
        dense = found["weights"]
    lines = [f"Dense: mAP50-95 {found['mAP50-95']:.3f}", ""]
    heads = [f"{arm}, {when}" for arm in ARMS for when in ("after the cut", "fine-tuned")]
    lines += [f"| method | speed-up | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for method in args.methods:
        for speed_up in args.speed_ups:
            cells = []
            for arm, keys in ARMS.items():
                runs = []
                for seed in args.seeds:
                    name = f"{method}-{speed_up:g}-{arm}-seed{seed}"
                    keys = {**keys, "prune_method": method, "speed_up": speed_up}
                    runs.append(experiment.once(name, lambda: experiment.prune_and_finetune(name, dense, seed, **keys)))
                cells += [spread([run[row]["mAP50-95"] for run in runs]) for row in ("pruned", "fine-tuned")]
            lines.append(f"| `{method}` | {speed_up:g}x | {' | '.join(cells)} |")
    markdown = "\n".join(lines)
    (out / "results.md").write_text(f"{markdown}\n", encoding="utf-8")
    LOGGER.info(markdown)


if __name__ == "__main__":
    main()
