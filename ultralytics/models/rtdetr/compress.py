# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress RT-DETR models.

Examples:
    >>> overrides = {"model": "rtdetr-best.pt", "data": "coco8.yaml", "speed_up": 2.0}
    >>> prune_pt = RTDETRCompressor(overrides=overrides).compress()
    >>> RTDETRFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.rtdetr.train import RTDETRTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class RTDETRFinetune(Finetuner, RTDETRTrainer):
    """Fine-tune a pruned RT-DETR model."""

    task = "detect"


class RTDETRSparsifier(Sparsifier, RTDETRTrainer):
    """Train an RT-DETR model with a sparsity regulariser, so that it can be pruned at less loss."""


class RTDETRCompressor(Compressor, RTDETRTrainer):
    """Prune an RT-DETR model."""

    task = "detect"
    trainer = RTDETRTrainer
    sparsifier = RTDETRSparsifier
    finetuner = RTDETRFinetune
