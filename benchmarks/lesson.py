# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a teacher adds to a training step, whole and without what its lesson does not read: steps in turns.

    python benchmarks/lesson.py --out runs/lesson --models yolov8n yolo11n --imgsz 320 --batch 16

A step is the forward and backward pass of a cut model's loss on a batch of noise, by Ultralytics' own distillation
where there is a teacher. Data loading and the optimizer's step are the same with and without one, and left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import torch
from fetch import STARTS, machine, markdown
from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.lesson import lighten
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.turns import Timing, take_turns
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

BOXES = 10  # of each image
WAYS = ("no teacher", "whole", "lightened")


def measure(dense: nn.Module, speed_up: float, args: argparse.Namespace) -> dict[str, Timing]:
    """Return the milliseconds of a step of a cut model, by way."""
    student, _ = prune_model(dense, Budget(speed_up), prune_method="lamp")
    student.args = SimpleNamespace(**{**DEFAULT_CFG_DICT, "imgsz": args.imgsz})
    student = student.to(args.device).train().requires_grad_(True)
    pairs = {way: DistillationModel(deepcopy(dense), deepcopy(student)).train() for way in WAYS[1:]}
    if not lighten(pairs["lightened"]):
        raise RuntimeError("the teacher was not lightened: it would teach something else")
    boxes = BOXES * args.batch
    batch = {
        "img": torch.rand(args.batch, 3, args.imgsz, args.imgsz),
        "batch_idx": torch.arange(args.batch).repeat_interleave(BOXES).float(),
        "cls": torch.zeros(boxes, 1),
        "bboxes": 0.2 + 0.3 * torch.rand(boxes, 4),
    }
    batch = {key: value.to(args.device) for key, value in batch.items()}
    runs = {way: step_of(model, batch) for way, model in {"no teacher": student, **pairs}.items()}
    return take_turns(runs, torch.device(args.device), f"{speed_up:g}x", args.repeats)


def step_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Return what runs a step of a model that is trained with or without a teacher."""

    def step() -> None:
        model.loss(batch)[0].sum().backward()
        model.zero_grad()

    return step


def main() -> None:
    """Measure every model and cut, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the starts and the table")
    parser.add_argument("--models", nargs="+", choices=tuple(STARTS), default=["yolov8n", "yolo11n"])
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in args.models:
        dense, _ = load_checkpoint(STARTS[model](out))
        for speed_up in args.speed_ups:
            low = {way: timing.low for way, timing in measure(dense, speed_up, args).items()}
            none, whole, light = (low[way] for way in WAYS)
            ratios = [f"{whole / none:.2f}x", f"{light / none:.2f}x", f"{(light - none) / (whole - none):.2f}"]
            rows.append([model, f"{speed_up:g}x", *(f"{low[way]:.0f}" for way in WAYS), *ratios])
    headings = ["model", "cut", *(f"{way} (ms)" for way in WAYS), "step, whole", "step, lightened", "left of its time"]
    text = markdown(headings, rows)
    (out / "results.md").write_text(f"{text}\n", encoding="utf-8")
    LOGGER.info(f"\n{machine()}, {torch.get_num_threads()} threads, {vars(args)}\n\n{text}")


if __name__ == "__main__":
    main()
