# SPDX-License-Identifier: AGPL-3.0-or-later
"""Accuracy at equal cost: ours against torch-pruning's loop, random and L1 pruning, and a narrower dense model.

    python benchmarks/peers.py --data trees --model yolov8n --out runs/peers_trees
    python benchmarks/peers.py --data trees --model yolo11n --out runs/peers_trees11
    python benchmarks/peers.py --data cells --bccd BCCD_Dataset --model yolov8n --out runs/peers_cells
    python benchmarks/peers.py --data shapes --model yolov8n --out runs/peers_shapes8
    python benchmarks/peers.py --data shapes --model yolo11n --out runs/peers_shapes11
    python benchmarks/peers.py --data trees --model yolov8n --out runs/peers_trees --arms time --speed-ups 1.7

A seed is that of the dense training and of everything made from that dense model. This package's arms are a sweep over
the targets each, with `--ray` on a Ray cluster. Results are written after each training or sweep, and a second run of
the command goes on behind the trainings that are complete. `--arms` and `--seeds` choose a part of the table. The arm
`time` asks for milliseconds in ONNX Runtime, so it wants a quiet machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from article_loop import prune_by_loop, record_of_loop
from experiment import AS_CUT, SETTINGS, Experiment, settings_of, spread
from fetch import STARTS, machine, markdown
from torch import nn

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.models.yolo.detect.compress import DetectionFinetune
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

OURS = {
    "ours": {"prune_method": "group_taylor"},
    "alone": {"prune_method": "group_taylor", "distill": False},
    "bare": {"prune_method": "group_taylor", **AS_CUT},
    "time": {"prune_method": "group_taylor", "budget": "onnx"},
    "lamp": {"prune_method": "lamp"},
    "l1": {"prune_method": "l1", "global_pruning": False, **AS_CUT},
    "random": {"prune_method": "random", "global_pruning": False, **AS_CUT},
}
LABELS = {
    "ours": "ours: `group_taylor`, recalibrated, distilled",
    "alone": "ours without a teacher: `group_taylor`, recalibrated",
    "bare": "ours without a teacher and as cut: `group_taylor`",
    "time": "ours: `group_taylor` with `budget=onnx`, recalibrated, distilled",
    "lamp": "ours: `lamp`, recalibrated, distilled",
    "loop": "torch-pruning's loop (LAMP, 200 steps), fine-tuned",
    "taught": "the loop, distilled as ours",
    "l1": "L1, each layer alone, fine-tuned",
    "random": "random, each layer alone, fine-tuned",
    "narrow": "narrower dense model, as many epochs in all",
    "pupil": "the same narrower model, taught by the dense one",
}
DENSE_EPOCHS = {"trees": 40, "cells": 80, "shapes": 75}
MACS_IMGSZ = 320  # pixels at which torch-pruning's loop counts


class Peers(Experiment):
    """The arms of the table, from one dense model per seed."""

    def __init__(self, out: Path, settings: dict[str, Any], about: dict[str, Any], start: str, dense_epochs: int):
        """Set up the experiment.

        Args:
            out (Path): Folder of the runs and the results file.
            settings (dict[str, Any]): Training arguments that all trainings share.
            about (dict[str, Any]): What the figures depend on.
            start (str): Checkpoint or YAML from which dense models are trained.
            dense_epochs (int): Epochs of the dense trainings.
        """
        super().__init__(out, settings, about)
        self.start, self.dense_epochs = start, dense_epochs

    def dense(self, seed: int) -> dict[str, Any]:
        """Train the dense model of a seed."""
        return self.once(f"dense-seed{seed}", lambda: self.train_dense(f"dense-seed{seed}", self.start, seed))

    def longer(self, seed: int) -> dict[str, Any]:
        """Train the dense model of a seed on as the pruned ones are fine-tuned, with an optimizer step per batch."""
        name, weights = f"longer-seed{seed}", self.dense(seed)["weights"]
        return self.once(name, lambda: self.train(name, weights, seed, nbs=self.settings["batch"]))

    def train_dense(self, name: str, model: str, seed: int, more: int = 0, **keys: Any) -> dict[str, Any]:
        """Train a dense model from scratch or from a checkpoint, for the dense epochs and some more."""
        return self.train(name, model, seed, epochs=self.dense_epochs + more, **keys)

    def arm(self, arm: str, speed_up: float, seed: int) -> dict[str, Any]:
        """Return what one arm that is not this package's made of the dense model."""
        name = f"{arm}-{speed_up:g}-seed{seed}"
        make = {"loop": self._loop, "taught": self._loop, "narrow": self._narrow, "pupil": self._narrow}[arm]
        return self.once(name, lambda: make(name, speed_up, seed, arm in {"taught", "pupil"}))

    def ours(self, arm: str, speed_ups: list[float], seed: int, **keys: Any) -> None:
        """Run this package's pipeline to those targets that have no result, as one sweep."""
        missing = [s for s in speed_ups if f"{arm}-{s:g}-seed{seed}" not in self.results["runs"]]
        if not missing:
            return
        dense, targets = self.dense(seed)["weights"], "-".join(f"{s:g}" for s in missing)
        for speed_up, run in self.grid(
            f"{arm}-seed{seed}-{targets}", dense, seed, missing, **OURS[arm], **keys
        ).items():
            ratios = {key: run[key] for key in ("flops_ratio", "onnx_latency_ratio") if key in run}
            row = {"weights": run["weights"], "minutes": run["minutes"], **ratios, **run["fine-tuned"]}
            self.once(f"{arm}-{speed_up:g}-seed{seed}", lambda: {**row, **self.validate(row["weights"])})

    def _loop(self, name: str, speed_up: float, seed: int, taught: bool) -> dict[str, Any]:
        """Run torch-pruning's loop and fine-tune, with the dense model as the teacher or without."""
        source = self.dense(seed)["weights"]
        dense, _ = load_checkpoint(source)
        pruned, steps = prune_by_loop(dense, speed_up, MACS_IMGSZ)
        record = record_of_loop(dense, pruned, speed_up)
        return {**self._finetune(name, pruned, record, seed, distill=taught), "steps": steps}

    def _narrow(self, name: str, speed_up: float, seed: int, taught: bool) -> dict[str, Any]:
        """Train a narrower model for as many epochs as the others have had in all, taught by the dense one or not."""
        teacher = {"distill_model": self.dense(seed)["weights"]} if taught else {}
        if not self.start.endswith(".yaml"):  # a start with weights: random channels of it, the same share everywhere
            dense = self._with_classes(load_checkpoint(self.start)[0])
            narrow, record = prune_model(
                dense, Budget(speed_up, global_pruning=False), seed=seed, prune_method="random"
            )
            epochs = self.dense_epochs + self.settings["epochs"]
            return self._finetune(name, narrow, record, seed, epochs=epochs, distill=taught, **teacher)
        dense = count_flops(YOLO(self.start).model)
        file, flops = narrower(self.start, dense / speed_up, self.out / f"{name}.yaml")
        run = self.train_dense(name, str(file), seed, more=self.settings["epochs"], **teacher)
        return {**run, "flops_ratio": dense / flops}

    def _with_classes(self, start: nn.Module) -> nn.Module:
        """Return a start with the data set's classes, since a teacher and its student have to predict the same."""
        names = YAML.load(self.settings["data"])["names"]
        model = DetectionModel(start.yaml, nc=len(names), verbose=False)
        model.load(start)
        model.names, model.args = names, start.args
        return model

    def _finetune(self, name: str, model: Any, record: Record, seed: int, **settings: Any) -> dict[str, Any]:
        """Fine-tune a pruned model as the stock trainer does."""
        file = self.out / f"{name}.pt"
        save_pruned(file, model, record, {})
        own = {"model": str(file), "name": name, "seed": seed}
        trainer = DetectionFinetune(overrides={**self.settings, **settings, **own})
        trainer.train()
        return {"weights": str(trainer.best), "flops_ratio": record.reached, **self.validate(trainer.best)}


def narrower(model: str, gflops: float, file: Path) -> tuple[Path, float]:
    """Write the YAML of the widest model that costs no more, by its width multiple.

    Args:
        model (str): YAML of a model with a scale letter.
        gflops (float): What it may cost.
        file (Path): YAML to write.

    Returns:
        file (Path): The same.
        gflops (float): What the model costs.
    """
    dense = YOLO(model).model.yaml
    depth, width, widest = dense["scales"][dense["scale"]]
    for thousandths in range(int(width * 1000), 0, -2):
        scaled = {**dense, "scales": {"n": [depth, thousandths / 1000, widest]}, "scale": "n"}
        YAML.save(file, scaled)
        if (flops := count_flops(YOLO(file).model)) <= gflops:
            return file, flops
    raise ValueError(f"no width multiple makes {model} cost {gflops} GFLOPs")


def table(results: dict[str, Any], speed_ups: list[float]) -> str:
    """Return what has been measured so far as a Markdown table: mean, and range over the seeds."""
    runs = results["runs"]
    rows = []
    for kind, label in (("dense", "dense"), ("longer", "dense, trained as long again")):
        if found := [run["mAP50-95"] for name, run in runs.items() if name.startswith(f"{kind}-")]:
            rows.append([f"{label}: {spread(found)}, {len(found)} seeds", *[""] * len(speed_ups)])
    for arm, label in LABELS.items():
        cells = []
        for speed_up in speed_ups:
            found = [run for name, run in runs.items() if name.startswith(f"{arm}-{speed_up:g}-seed")]
            ratio = f", {mean(r['flops_ratio'] for r in found):.2f}x" if found else ""
            cells.append(f"{spread([r['mAP50-95'] for r in found])}, n={len(found)}{ratio}" if found else "-")
        rows.append([label, *cells])
    return markdown(["mAP50-95", *(f"{s:g}x" for s in speed_ups)], rows)


def main() -> None:
    """Train all arms, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--data", choices=tuple(SETTINGS), default="trees")
    parser.add_argument("--model", default="yolov8n", help="trained from scratch on shapes, from a checkpoint else")
    parser.add_argument("--bccd", type=Path, help="folder of a clone of Shenggan/BCCD_Dataset, for the blood cells")
    parser.add_argument("--arms", nargs="*", choices=tuple(LABELS), default=[a for a in LABELS if a != "time"])
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--longer", action="store_true", help="also train the dense models on, as a control")
    parser.add_argument(
        "--ray", action="store_true", help="run this package's arms on Ray, one grid for each arm and seed"
    )
    parser.add_argument("--imgsz", type=int, help="of trainings and validations, by default what the data has")
    parser.add_argument("--epochs", type=int, help="of fine-tunings, by default what the data has")
    parser.add_argument("--dense-epochs", type=int, help="of dense trainings, by default what the data has")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    from_scratch = args.data == "shapes"
    if not from_scratch and args.model not in STARTS:
        parser.error(f"--model {args.model}: photographs have trained starts for {', '.join(STARTS)}")
    if args.data == "cells" and not args.bccd:
        parser.error("--data cells needs --bccd, the folder of a clone of Shenggan/BCCD_Dataset")
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    dense_epochs = args.dense_epochs or DENSE_EPOCHS[args.data]
    settings = settings_of(args.data, out, args.device, args.bccd)
    settings |= {key: value for key in ("imgsz", "epochs") if (value := vars(args)[key])}
    start = f"{args.model}.yaml" if from_scratch else str(STARTS[args.model](out))
    about = {**machine(), "settings": settings, "dense_epochs": dense_epochs, "start": start}
    peers = Peers(out, settings, about, start, dense_epochs)
    for seed in args.seeds:
        if args.longer:
            peers.longer(seed)
        for arm in args.arms:
            if arm in OURS:
                peers.ours(arm, args.speed_ups, seed, **({"use_ray": True} if args.ray else {}))
            for speed_up in args.speed_ups:
                if arm not in OURS:
                    peers.arm(arm, speed_up, seed)
                (out / "results.md").write_text(f"{table(peers.results, args.speed_ups)}\n", encoding="utf-8")
    LOGGER.info(table(peers.results, args.speed_ups))


if __name__ == "__main__":
    main()
