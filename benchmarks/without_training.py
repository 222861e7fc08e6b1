# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a cut costs that no fine-tuning follows: as cut, batch norms measured again, convolutions fitted again.

    python benchmarks/without_training.py --model best.pt --data data.yaml --imgsz 640 --out runs/without_training

Every cut is validated on the data set's test pictures, if it has any. A second run of the command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment import SHARED, Experiment
from fetch import machine, markdown

from ultralytics.utils import LOGGER

AFTER = {  # what follows the cut: keys
    "nothing": {"recalibrate": False},
    "recalibrate": {"recalibrate": True},
    "refit": {"recalibrate": True, "refit": True},
}


def main() -> None:
    """Cut, validate, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--model", required=True, help="dense checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=["group_taylor", "lamp"])
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[1.25, 1.5, 2.0, 3.0])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = {**SHARED, "data": args.data, "imgsz": args.imgsz, "batch": args.batch, "device": args.device}
    settings |= {"project": str(out / "runs")}
    about = {**machine(), "settings": settings, "model": args.model}
    experiment = Experiment(out, settings, about)
    experiment.once("dense", lambda: experiment.validate(args.model))
    for method in args.methods:
        for speed_up in args.speed_ups:
            for after, keys in AFTER.items():
                name = f"{method}-{speed_up:g}-{after}"
                cut = {"prune_method": method, "speed_up": speed_up, **keys}
                experiment.once(name, lambda name=name, cut=cut: pruned(experiment, name, args.model, cut))
                text = table(experiment.results["runs"], args.methods, args.speed_ups)
                (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(text)


def pruned(experiment: Experiment, name: str, model: str, cut: dict[str, Any]) -> dict[str, Any]:
    """Cut a model and validate what comes of it."""
    run = experiment.prune(name, model, 0, **cut)
    return {**run, **experiment.validate(run["weights"])}


def table(runs: dict[str, Any], methods: list[str], speed_ups: list[float]) -> str:
    """Return what was measured so far as a Markdown table."""
    rows = []
    for method in methods:
        for after in AFTER:
            found = [runs.get(f"{method}-{speed_up:g}-{after}") for speed_up in speed_ups]
            rows.append([method, after, *(f"{run['mAP50-95']:.3f}" if run else "-" for run in found)])
    headings = [f"mAP50-95, dense {runs['dense']['mAP50-95']:.3f}", "after the cut", *(f"{s:g}x" for s in speed_ups)]
    return markdown(headings, rows)


if __name__ == "__main__":
    main()
