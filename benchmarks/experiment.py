# SPDX-License-Identifier: AGPL-3.0-or-later
"""Trainings whose results are kept one by one, so that an experiment of hours can be stopped and go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import blood_cells
import tree_crowns

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import split
from ultralytics.engine.compress.checks.training import find_data
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.utils import LOGGER

METRICS = ("mAP50", "mAP50-95")
AS_CUT = {"recalibrate": False, "distill": False}  # without what keeps the accuracy
SHARED = {"optimizer": "AdamW", "cache": True, "plots": False, "workers": 0, "exist_ok": True}
SETTINGS = {  # data: training arguments of experiments on it
    "trees": {**SHARED, "imgsz": 320, "epochs": 40, "batch": 16, "lr0": 0.001},
    "cells": {**SHARED, "imgsz": 320, "epochs": 40, "batch": 16, "lr0": 0.001},
    "shapes": {**SHARED, "imgsz": 128, "epochs": 25, "batch": 8, "nbs": 8, "lr0": 0.002, "mosaic": 0.0},
}


def settings_of(data: str, out: Path, device: str = "cpu", bccd: Path | None = None) -> dict[str, Any]:
    """Return the training arguments of experiments on a data set, which is built, with runs below a folder.

    Args:
        data (str): A key of SETTINGS.
        out (Path): Where the data set and the runs go.
        device (str): Where trainings run.
        bccd (Path, optional): Clone of Shenggan/BCCD_Dataset, which the blood cells need.

    Raises:
        ValueError: If the blood cells have none.
    """
    if data == "trees":
        file = str(tree_crowns.build_data(out))
    elif data == "cells":
        if bccd is None:
            raise ValueError("'data=cells' needs 'bccd', the folder of a clone of Shenggan/BCCD_Dataset")
        file = str(blood_cells.build_data(out, bccd.resolve()))
    else:
        file = find_data("shapes.yaml")
    return {**SETTINGS[data], "device": device, "project": str(out / "runs"), "data": file}


class Experiment:
    """The trainings, each kept in the results file when it is complete.

    Attributes:
        settings (dict[str, Any]): Training arguments that all of them share.
        results (dict[str, Any]): What was measured so far.
    """

    def __init__(self, out: Path, settings: dict[str, Any], about: dict[str, Any]):
        """Read the results of an earlier run of the same settings.

        Args:
            out (Path): Folder of the runs and the results file.
            settings (dict[str, Any]): Training arguments that all trainings share.
            about (dict[str, Any]): What the figures depend on.

        Raises:
            ValueError: If the folder holds results of other settings.
        """
        self.out, self.settings = out, settings
        self.file = out / "results.json"
        self.results = {"about": about, "runs": {}}
        if self.file.exists():
            self.results = json.loads(self.file.read_text(encoding="utf-8"))
            if (found := self.results["about"]) != about:
                raise ValueError(f"'{self.file}' was measured with {found}, not {about}; choose another --out")

    def once(self, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a training, doing it unless that is done."""
        if name not in self.results["runs"]:
            begin = time.time()
            result = run()
            self.results["runs"][name] = {"minutes": round((time.time() - begin) / 60, 2), **result}
            self.file.write_text(json.dumps(self.results, indent=2), encoding="utf-8")
            LOGGER.info(f"{name}: {self.results['runs'][name]}")
        return self.results["runs"][name]

    def train(self, name: str, model: Path | str, seed: int, **keys: Any) -> dict[str, Any]:
        """Train a dense model with Ultralytics' own trainer."""
        own = {**keys, "model": str(model), "name": name, "seed": seed}
        stock, _ = split({**self.settings, **own})  # settings may hold keys of pruning as well
        trainer = DetectionTrainer(overrides=stock)
        trainer.train()
        return {"weights": str(trainer.best), **self.validate(trainer.best)}

    def validate(self, weights: Path | str) -> dict[str, float]:
        """Return the metrics of a checkpoint, on pictures that have chosen no epoch where the data set has such."""
        keys = ("data", "imgsz", "batch", "device", "plots")
        split = "test" if YAML.load(self.settings["data"]).get("test") else "val"
        box = YOLO(weights).val(**{k: self.settings[k] for k in keys}, split=split, workers=0).box
        return dict(zip(METRICS, (float(box.map50), float(box.map))))

    def prune(self, name: str, dense: str, seed: int, **keys: Any) -> dict[str, Any]:
        """Prune the dense model, by the default method to half its FLOPs unless the keys say otherwise."""
        overrides = {**self.settings, "seed": seed, **keys, "model": dense, "name": f"{name}-prune"}
        compressor = DetectionCompressor(overrides=overrides)
        weights = compressor.compress()
        return {"weights": weights, **self._figures(compressor.save_dir)}

    def prune_and_finetune(self, name: str, dense: str, seed: int, **keys: Any) -> dict[str, Any]:
        """Prune the dense model in the same way and fine-tune it."""
        pruned = self.prune(name, dense, seed, **keys)["weights"]
        overrides = {**self.settings, "seed": seed, **keys, "model": pruned, "name": f"{name}-finetune"}
        finetune = DetectionFinetune(overrides=overrides)
        finetune.train()
        seconds = load_checkpoint(pruned)[0].pruning["seconds"]
        return {"weights": str(finetune.best), "prune_seconds": seconds, **self._figures(finetune.save_dir)}

    def grid(
        self, name: str, dense: str, seed: int, speed_ups: list[float], **keys: Any
    ) -> dict[float, dict[str, Any]]:
        """Prune the dense model to several targets and fine-tune each, as one sweep, on Ray if the keys say so.

        Args:
            name (str): Name of the sweep; one that was stopped goes on.
            dense (str): Checkpoint of the dense model.
            seed (int): Seed.
            speed_ups (list[float]): Targets.
            **keys (Any): What differs from the settings.

        Returns:
            (dict[float, dict]): Target to what `prune_and_finetune` returns, and 'minutes', the mean of all.
        """
        overrides = {**self.settings, "seed": seed, **keys, "speed_up": speed_ups, "name": name}
        begun, begin = Path(self.settings["project"]) / f"{name}-sweep" / "runs.yaml", time.time()
        rows = YOLO(dense).compress(**overrides, resume=begun.exists())["rows"]
        weights = {row["model"]: Path(row["weights"]) for row in rows}
        found = {}
        minutes = round((time.time() - begin) / 60 / len(speed_ups), 2)
        for speed_up in speed_ups:
            best = weights[f"{speed_up:g}x"]
            pruned = json.loads((best.parents[1] / "report.json").read_text("utf-8"))["rows"]["pruned"]["weights"]
            seconds = load_checkpoint(pruned)[0].pruning["seconds"]
            run = {"weights": str(best), "minutes": minutes, "prune_seconds": seconds}
            found[speed_up] = {**run, **self._figures(best.parents[1])}
        return found

    @staticmethod
    def _figures(folder: Path) -> dict[str, Any]:
        """Return the ratios and the rows of a run's report."""
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        keys = (*METRICS, "parameters", "gflops", "pytorch_latency_p10_ms")
        ratios = {key: ratio for key, ratio in report.items() if key.endswith("_ratio")}
        return {**ratios, **{name: {k: row[k] for k in keys} for name, row in report["rows"].items()}}


def each_once(file: Path, make: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the results of a file, and make those that it lacks, each written when it is there.

    Args:
        file (Path): JSON with the results of earlier starts, if there were any.
        make (Mapping[str, Callable]): Name of a result to what makes it.
    """
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, result in make.items():
        if name not in results:
            results[name] = result()
            file.write_text(json.dumps(results, indent=2), encoding="utf-8")
    return results


def spread(values: list[float]) -> str:
    """Return the mean, with the range where there is more than one value."""
    return f"{mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")
