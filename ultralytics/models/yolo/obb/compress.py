# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress oriented detection models.

Examples:
    >>> overrides = {"model": "best-obb.pt", "data": "dota8.yaml", "speed_up": 2.0}
    >>> prune_pt = OBBCompressor(overrides=overrides).compress()
    >>> OBBFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.obb.train import OBBTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class OBBFinetune(Finetuner, OBBTrainer):
    """Fine-tune a pruned oriented detection model."""

    task = "obb"


class OBBSparsifier(Sparsifier, OBBTrainer):
    """Train an oriented detection model with a sparsity regulariser, so that it can be pruned at less loss."""


class OBBCompressor(Compressor, OBBTrainer):
    """Prune an oriented detection model."""

    task = "obb"
    trainer = OBBTrainer
    sparsifier = OBBSparsifier
    finetuner = OBBFinetune
