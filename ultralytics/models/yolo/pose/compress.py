# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress pose estimation models.

Examples:
    >>> overrides = {"model": "best-pose.pt", "data": "coco8-pose.yaml", "speed_up": 2.0}
    >>> prune_pt = PoseCompressor(overrides=overrides).compress()
    >>> PoseFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.pose.train import PoseTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class PoseFinetune(Finetuner, PoseTrainer):
    """Fine-tune a pruned pose estimation model."""

    task = "pose"


class PoseSparsifier(Sparsifier, PoseTrainer):
    """Train a pose estimation model with a sparsity regulariser, so that it can be pruned at less loss."""


class PoseCompressor(Compressor, PoseTrainer):
    """Prune a pose estimation model."""

    task = "pose"
    trainer = PoseTrainer
    sparsifier = PoseSparsifier
    finetuner = PoseFinetune
