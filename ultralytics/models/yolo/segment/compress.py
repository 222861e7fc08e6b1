# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress instance segmentation models.

Examples:
    >>> overrides = {"model": "best-seg.pt", "data": "coco8-seg.yaml", "speed_up": 2.0}
    >>> prune_pt = SegmentationCompressor(overrides=overrides).compress()
    >>> SegmentationFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.segment.train import SegmentationTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class SegmentationFinetune(Finetuner, SegmentationTrainer):
    """Fine-tune a pruned instance segmentation model."""

    task = "segment"


class SegmentationSparsifier(Sparsifier, SegmentationTrainer):
    """Train an instance segmentation model with a sparsity regulariser, so that it can be pruned at less loss."""


class SegmentationCompressor(Compressor, SegmentationTrainer):
    """Prune an instance segmentation model."""

    task = "segment"
    trainer = SegmentationTrainer
    sparsifier = SegmentationSparsifier
    finetuner = SegmentationFinetune
