# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the dense model is worth as a teacher, by how long it was trained: throughout, for a while, or not at all.

    python benchmarks/teacher.py --out runs/teacher
    python benchmarks/teacher.py --out runs/teacher --seeds 0 1 2 --dense-epochs 25 75 --speed-ups 2 4

The dense model is trained for the first number of epochs, then for the second on top of them, and so on; after each it
is pruned and fine-tuned with every arm. Results are written after each training, and a second run of the command goes
on behind those that are complete. `default` is what the package decides by the dense model's curve, and `trained on`
the same after `dense_epochs` more, as many as the fine-tuning has.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from experiment import SETTINGS, Experiment, settings_of, spread
from fetch import machine, markdown

from ultralytics.utils import LOGGER

ARMS = ("default", "throughout", "none", "trained on")


def main() -> None:
    """Train, prune and fine-tune by every arm, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--data", choices=tuple(SETTINGS), default="shapes")
    parser.add_argument("--model", default="yolov8n.yaml", help="where the first dense training begins")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--dense-epochs", type=int, nargs="+", default=[25, 75])
    parser.add_argument("--epochs", type=int, default=25, help="of every fine-tuning")
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[2.0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--bccd", type=Path, help="folder of a clone of Shenggan/BCCD_Dataset, for the blood cells")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = {**settings_of(args.data, out, args.device, args.bccd), "imgsz": args.imgsz, "epochs": args.epochs}
    experiment = Experiment(out, settings, {**machine(), "settings": settings, "dense_epochs": args.dense_epochs})
    figures: dict[tuple[Any, ...], list[float]] = {}
    for seed in args.seeds:
        weights = args.model
        for stage, epochs in enumerate(args.dense_epochs):
            name = f"dense-{stage}-seed{seed}"
            dense = experiment.once(name, lambda: experiment.train(name, weights, seed, epochs=epochs))
            weights = dense["weights"]
            trained = sum(args.dense_epochs[: stage + 1])
            figures.setdefault((trained, "dense"), []).append(dense["mAP50-95"])
            for speed_up in args.speed_ups:
                for arm in args.arms:
                    keys = {**teaching(arm, Path(weights), args.epochs), "speed_up": speed_up}
                    name = f"{arm.replace(' ', '-')}-{speed_up:g}-dense-{stage}-seed{seed}"
                    run = experiment.once(name, lambda: experiment.prune_and_finetune(name, weights, seed, **keys))
                    figures.setdefault((trained, speed_up, arm), []).append(run["fine-tuned"]["mAP50-95"])
    rows = [
        [str(trained), spread(figures[trained, "dense"]), f"{speed_up:g}x"]
        + [spread(figures[trained, speed_up, arm]) for arm in args.arms]
        for trained in dict.fromkeys(key[0] for key in figures)
        for speed_up in args.speed_ups
    ]
    text = markdown(["dense epochs", "dense", "cut", *args.arms], rows)
    (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(text)


def teaching(arm: str, dense: Path, epochs: int) -> dict[str, Any]:
    """Return the keys of an arm; a copy of the dense model is a teacher that the user has chosen."""
    if arm == "throughout":
        return {"distill_model": shutil.copy(dense, dense.with_name("teacher.pt"))}
    return {"dense_epochs": epochs} if arm == "trained on" else {"distill": arm != "none"}


if __name__ == "__main__":
    main()
