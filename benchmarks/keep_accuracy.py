# SPDX-License-Identifier: AGPL-3.0-or-later
"""What keeps the accuracy: batch norms measured anew after the cut, and distillation while fine-tuning.

    python benchmarks/keep_accuracy.py --data trees --out runs/keep_trees
    python benchmarks/keep_accuracy.py --data shapes --out runs/keep_shapes
    python benchmarks/keep_accuracy.py --data shapes --out runs/keep_shapes_100 --dense-epochs 25 75

A seed is that of the dense training and of everything made from that dense model. Results are written after each
training, and a second run of the command goes on behind those that are complete; `--arms` chooses columns of the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment import SETTINGS, Experiment, settings_of, spread
from fetch import fetch_railway, machine, markdown

from ultralytics.utils import LOGGER

ARMS: dict[str, tuple[str, dict[str, Any]]] = {  # column: row of the report that it shows, what is switched on
    "as cut": ("pruned", {"recalibrate": False}),
    "recalibrated": ("pruned", {"recalibrate": True}),
    "fine-tuned": ("fine-tuned", {"distill": False}),
    "distilled": ("fine-tuned", {"distill": True}),
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
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[1.5, 2.0, 3.0, 4.0])
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bccd", type=Path, help="folder of a clone of Shenggan/BCCD_Dataset, for the blood cells")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = settings_of(args.data, out, args.device, args.bccd)
    settings["epochs"] = args.epochs or settings["epochs"]
    dense_epochs = args.dense_epochs or [settings["epochs"]]
    experiment = Experiment(out, settings, {**machine(), "settings": settings, "dense_epochs": dense_epochs})
    start = "yolov8n.yaml" if args.data == "shapes" else str(fetch_railway(out))

    figures: dict[tuple[str, ...], list[float]] = {}
    for seed in args.seeds:
        dense = {"weights": start}
        for i, epochs in enumerate(dense_epochs):
            name, weights = f"dense-{i}-seed{seed}", dense["weights"]
            dense = experiment.once(name, lambda: experiment.train(name, weights, seed, epochs=epochs))
        figures.setdefault(("dense",), []).append(dense["mAP50-95"])
        for method in args.methods:
            for speed_up in args.speed_ups:
                for arm in args.arms:
                    row, keys = ARMS[arm]
                    keys = {**keys, "prune_method": method, "speed_up": speed_up}
                    name = f"{method}-{speed_up:g}-{arm.replace(' ', '-')}-seed{seed}"
                    make = experiment.prune if row == "pruned" else experiment.prune_and_finetune
                    run = experiment.once(name, lambda: make(name, dense["weights"], seed, **keys))
                    figures.setdefault((method, f"{speed_up:g}", arm), []).append(run[row]["mAP50-95"])

    rows = [
        [f"`{method}` {speed_up}x", *(spread(figures[method, speed_up, arm]) for arm in args.arms)]
        for method in args.methods
        for speed_up in (f"{s:g}" for s in args.speed_ups)
    ]
    text = f"Dense: mAP50-95 {spread(figures[('dense',)])}, seeds {args.seeds}\n\n{markdown(['cut', *args.arms], rows)}"
    (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(text)


if __name__ == "__main__":
    main()
