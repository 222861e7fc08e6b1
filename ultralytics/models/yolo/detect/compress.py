# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress detection models.

Examples:
    >>> overrides = {"model": "best.pt", "data": "coco8.yaml", "speed_up": 2.0}
    >>> prune_pt = DetectionCompressor(overrides=overrides).compress()
    >>> DetectionFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.detect.train import DetectionTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class DetectionFinetune(Finetuner, DetectionTrainer):
    """Fine-tune a pruned detection model."""

    task = "detect"


class DetectionSparsifier(Sparsifier, DetectionTrainer):
    """Train a detection model with a sparsity regulariser, so that it can be pruned at less loss."""


class DetectionCompressor(Compressor, DetectionTrainer):
    """Prune a detection model."""

    task = "detect"
    trainer = DetectionTrainer
    sparsifier = DetectionSparsifier
    finetuner = DetectionFinetune
