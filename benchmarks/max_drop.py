# SPDX-License-Identifier: AGPL-3.0-or-later
"""How near a search by `max_drop` comes to the best of a fine sweep.

    python benchmarks/max_drop.py --out runs/max_drop --model best.pt --data shapes.yaml --imgsz 128 --epochs 25
    python benchmarks/max_drop.py --out runs/max_drop --model best.pt --data data.yaml --max-drop 0 0.5 1 --device 0

The first accuracy is searched for from nothing, each further one goes on from the tries so far. A sweep then fine-tunes
every target of `--speed-ups` as long. A second run of the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.engine.pruning.files import write_json
from ultralytics.utils import LOGGER

TARGETS = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0]


def main() -> None:
    """Search, sweep, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--model", required=True, help="dense checkpoint")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=25, help="of every fine-tuning")
    parser.add_argument("--max-drop", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--speed-ups", type=float, nargs="+", default=TARGETS)
    parser.add_argument("--training", nargs="*", default=["optimizer=AdamW", "lr0=0.002", "nbs=8", "mosaic=0.0"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    pairs = (pair.split("=", 1) for pair in args.training)
    keys: dict[str, Any] = {key: value if key == "optimizer" else float(value) for key, value in pairs}
    keys |= {"data": args.data, "imgsz": args.imgsz, "epochs": args.epochs, "batch": 8, "workers": 0}
    keys |= {"device": args.device, "project": str(out), "plots": False, "nbs": int(keys.get("nbs", 64))}
    searches = {}
    for max_drop in args.max_drop:
        resume = (out / "found-search").exists()
        searches[max_drop] = YOLO(args.model).compress(**keys, max_drop=max_drop, name="found", resume=resume)
    resume = (out / "swept-sweep").exists()
    swept = YOLO(args.model).compress(**keys, speed_up=args.speed_ups, name="swept", resume=resume)
    write_json(out / "results.json", {**machine(), "searches": searches, "sweep": swept})
    text = f"{table_of_searches(searches, swept)}\n\n{table_of_tries(searches[args.max_drop[-1]], swept)}\n"
    (out / "results.md").write_text(text, encoding="utf-8")
    LOGGER.info(text)


def table_of_searches(searches: dict[float, dict], swept: dict[str, Any]) -> str:
    """Return what was found for each accuracy beside the best of the sweep."""
    rows, metric, dense = [], swept["metric"], swept["rows"][0][swept["metric"]]
    for max_drop, found in searches.items():
        row = next(row for row in found["rows"] if row["weights"] == found["weights"])
        enough = [r for r in swept["rows"][1:] if r[metric] >= dense - max_drop / 100]
        best = max(enough, key=lambda r: r["flops_ratio"], default=None)
        cells = [f"{max_drop:g}", row["model"], f"{row['points_lost']:.1f}", "yes" if found["met"] else "no"]
        cells += [best["model"], f"{100 * (dense - best[metric]):.1f}"] if best else ["none", ""]
        rows.append([*cells, str(len(found["rows"]) - 1)])
    heading = ["max_drop", "found", "points lost", "met", "best of the sweep", "points lost", "fine-tunings"]
    return f"Dense: {metric} {dense:.3f}\n\n{markdown(heading, rows)}"


def table_of_tries(found: dict[str, Any], swept: dict[str, Any]) -> str:
    """Return every try and every cell of the sweep."""
    metric = found["metric"]
    rows = [[r["model"], f"{r[metric]:.3f}", f"{r['points_lost']:.1f}"] for r in found["rows"]]
    rows += [[f"{r['model']} (sweep)", f"{r[metric]:.3f}", ""] for r in swept["rows"][1:]]
    return markdown(["model", metric, "points lost"], rows)


if __name__ == "__main__":
    main()
