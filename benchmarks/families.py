# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every family, size and task at 2x: what is reached, what stays whole, how long it takes, and whether it still fits.

    python benchmarks/families.py --out runs/families
    python benchmarks/families.py --out runs/families --only yolo26n yolo26n-seg

Models are built from Ultralytics' YAMLs and given statistics that fit their input, so that their outputs depend on the
image. Each row is one model; one that fails says why. Results are written after each row, and a second run of the
command goes on behind them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from fetch import machine, markdown
from railway import stock_environment

from ultralytics import RTDETR, YOLO
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven, largest_difference
from ultralytics.nn.extra_modules.prunable import prunable_copy
from ultralytics.utils import LOGGER, TQDM

SIZES = "nsmlx"
MODELS = [
    *("yolov3-tiny", "yolov3", "yolov3-spp"),
    *(f"yolov5{size}" for size in SIZES),
    *(f"yolov5{size}6" for size in SIZES),
    *(f"yolov6{size}" for size in SIZES),
    *(f"yolov8{size}{kind}" for kind in ("", "-p2", "-p6", "-ghost") for size in SIZES),
    *(f"yolov9{size}" for size in "tsmce"),
    *(f"yolov10{size}" for size in "nsmblx"),
    *(f"yolo{family}{size}" for family in ("11", "12", "26") for size in SIZES),
    *(f"yolo26{size}-{kind}" for kind in ("p2", "p6") for size in SIZES),
    *("rtdetr-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101", "yolov8n-rtdetr", "yolov8x-rtdetr"),
    *(
        f"yolo{family}{size}-{task}"
        for family in ("v8", "11", "12", "26")
        for task in ("seg", "pose", "obb", "cls")
        for size in "nsm"
    ),
    *(f"yolo26{size}-{task}" for task in ("sem", "depth") for size in "nsm"),
]
STOCK_LOAD = """
import json, sys
from ultralytics.nn.tasks import load_checkpoint
loads = {}
for file in sys.argv[2:]:
    model, _ = load_checkpoint(file)
    loads[file] = sum(p.numel() for p in model.parameters())
json.dump(loads, open(sys.argv[1], "w"))
"""


def measure(name: str, speed_up: float, out: Path) -> dict:
    """Prune one model and return its row."""
    yolo = (RTDETR if "rtdetr" in name else YOLO)(f"{name}.yaml")
    dense = enliven(yolo.model, yolo.model.predict)
    begin = time.perf_counter()
    graph = Graph(prunable_copy(dense))
    graph_seconds = time.perf_counter() - begin
    pruned, record = prune_model(dense, Budget(speed_up), prune_method="lamp")
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    weights = out / f"{name}-pruned.pt"
    save_pruned(weights, pruned, record, {"task": yolo.task, "imgsz": 192})
    return {
        "task": yolo.task,
        "reached": record.reached,
        "parameters": record.parameters["dense"] / record.parameters["pruned"],
        "groups": len(graph.groups),
        "whole": len(record.left_dense) - len(graph.protected),
        "graph_seconds": graph_seconds,
        "seconds": record.seconds,
        "oracle": largest_difference(dense, pruned, record, image),
        "fuse": fuse_difference(pruned, image),
        "onnx": onnx_difference(weights, image),
        "kept_parameters": record.parameters["pruned"],
    }


def fuse_difference(pruned: torch.nn.Module, image: torch.Tensor) -> float:
    """Return the difference that fusing makes, over the largest output."""
    expected = outputs(pruned, image)
    return difference(outputs(pruned.fuse(verbose=False), image), expected)


def onnx_difference(weights: Path, image: torch.Tensor) -> float:
    """Return the difference between ONNX Runtime and PyTorch, over the largest output."""
    yolo = YOLO(weights)
    model = YOLO(weights).model.float().eval()
    model.model[-1].export, model.model[-1].format = True, "onnx"  # some heads put out another form of it
    expected = outputs(model, image)
    file = yolo.export(format="onnx", imgsz=image.shape[-1], verbose=False)
    session = onnxruntime.InferenceSession(file)
    actual = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    Path(file).unlink()
    return difference({str(i): torch.from_numpy(np.asarray(array)) for i, array in enumerate(actual)}, expected)


def outputs(model: torch.nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the decoded outputs."""
    with torch.no_grad():
        output = model(image)
    decoded = isinstance(output, tuple) and isinstance(output[1], (dict, tuple))  # and the raw ones behind
    return flatten(output[0] if decoded else output)


def difference(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the 95th percentile of the differences over the largest value; near ties may have changed places."""
    differences = []
    for (name, value), other in zip(expected.items(), actual.values(), strict=True):
        if value.numel() != other.numel():
            raise RuntimeError(f"output '{name}' has shape {tuple(other.shape)}, expected {tuple(value.shape)}")
        gap = (other.reshape(-1).double() - value.reshape(-1).double()).abs()
        differences.append(float(gap.kthvalue(max(int(0.95 * len(gap)), 1)).values / value.abs().max()))
    return max(differences)


def check_stock(results: dict[str, dict], out: Path) -> None:
    """Load every checkpoint in an environment with stock Ultralytics alone."""
    files = {str(out / f"{name}-pruned.pt"): name for name, row in results.items() if "error" not in row}
    result = out / "stock.json"
    subprocess.run([stock_environment(out / "stock"), "-I", "-c", STOCK_LOAD, result, *files], check=True, cwd=out)
    for file, parameters in json.loads(result.read_text(encoding="utf-8")).items():
        row = results[files[file]]
        row["stock"] = parameters == row["kept_parameters"]


def table(results: dict[str, dict]) -> str:
    """Return the results as a Markdown table."""
    headings = ["model", "task", "FLOPs ratio", "parameters ratio", "groups", "left whole", "graph (s)", "pruning (s)"]
    headings += ["oracle", "stock load", "fuse", "ONNX"]
    rows = []
    for name, row in results.items():
        if "error" in row:
            rows.append([name, "", row["error"], *[""] * 9])
            continue
        cells = [name, row["task"], f"{row['reached']:.3f}", f"{row['parameters']:.2f}", f"{row['groups']}"]
        cells += [f"{row['whole']}", f"{row['graph_seconds']:.2f}", f"{row['seconds']:.2f}", f"{row['oracle']:.0e}"]
        cells += ["yes" if row["stock"] else "NO", f"{row['fuse']:.0e}", f"{row['onnx']:.0e}"]
        rows.append(cells)
    return markdown(headings, rows)


def main() -> None:
    """Measure every model, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--only", nargs="+", default=MODELS, help="names of model YAMLs")
    parser.add_argument("--speed-up", type=float, default=2.0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in TQDM(args.only, desc="Models"):
        if name not in results:
            try:
                results[name] = measure(name, args.speed_up, out)
            except ValueError as error:
                if "cannot be reached" not in str(error):  # which is a result, too
                    raise
                results[name] = {"error": str(error)}
            file.write_text(json.dumps(results, indent=2), encoding="utf-8")
    results = {name: results[name] for name in MODELS if name in results}
    check_stock(results, out)
    (out / "results.md").write_text(f"{table(results)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{table(results)}")


if __name__ == "__main__":
    main()
