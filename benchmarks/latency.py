# SPDX-License-Identifier: AGPL-3.0-or-later
"""Real latency: the dense model against what pruning makes of it, in ONNX Runtime on the CPU and in PyTorch.

    python benchmarks/latency.py --weights yolov8n.pt yolo11n.yaml --out runs/latency

All models of one row group take turns, batch 1, FP32. LAMP chooses the channels, because it needs no data; a model of
your own is measured by the same command. The budgets in time measure this machine's convolutions first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from fetch import fetch_railway, machine, markdown

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_latency
from ultralytics.engine.pruning.latency.pytorch import pytorch_latency
from ultralytics.engine.pruning.latency.turns import Timing
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import select_device

ARMS = {  # label: keys of `Budget`
    "2x FLOPs, `round_to=1`": {"round_to": 1},
    "2x FLOPs, `round_to=8`": {"round_to": 8},
    "2x FLOPs, `round_to=16`": {"round_to": 16},
    "2x `budget=onnx`, `round_to=8`": {"budget": "onnx"},
    "2x `budget=pytorch`, `round_to=8`": {"budget": "pytorch"},
}


def main() -> None:
    """Prune every model in every way, time them, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for downloads and results")
    parser.add_argument(
        "--weights", nargs="+", default=["railway", "yolo11n.yaml"], help="models; 'railway' is fetched"
    )
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    device = select_device(args.device)
    torch.set_num_threads(args.threads)
    headings = ["model", "cut", "GFLOPs", "FLOPs ratio", "ONNX Runtime (ms)", "ratio", "PyTorch (ms)", "ratio"]
    rows: list[list[str]] = []
    about = f"{json.dumps(machine())}, {args.imgsz} pixels, {args.threads} threads, {device}"
    for weights in args.weights:
        dense = YOLO(fetch_railway(args.out) if weights == "railway" else weights).model.to(device)
        models = {"dense": dense}
        for arm, keys in ARMS.items():
            models[arm], _ = prune_model(dense, Budget(imgsz=args.imgsz, **keys), prune_method="lamp")
        onnx, pytorch = onnx_latency(models, args.imgsz), pytorch_latency(models, args.imgsz, device)
        flops = {arm: count_flops(model) for arm, model in models.items()}
        for arm in models:
            cells = [weights, arm, f"{flops[arm]:.2f}", f"{flops['dense'] / flops[arm]:.2f}"]
            rows.append([*cells, *timing(onnx, arm), *timing(pytorch, arm)])
        (args.out / "results.md").write_text(f"{markdown(headings, rows)}\n", encoding="utf-8")
    LOGGER.info(f"\n{about}\n\n{markdown(headings, rows)}")


def timing(times: dict[str, Timing], arm: str) -> tuple[str, str]:
    """Return a model's median with its 10th and 90th percentile, and how much faster than the dense one it is."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*times[arm]), f"{times['dense'].median / times[arm].median:.2f}x"


if __name__ == "__main__":
    main()
