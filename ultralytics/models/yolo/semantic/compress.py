# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress semantic segmentation models.

Examples:
    >>> overrides = {"model": "best-sem.pt", "data": "cityscapes8.yaml", "speed_up": 2.0}
    >>> prune_pt = SemanticSegmentationCompressor(overrides=overrides).compress()
    >>> SemanticSegmentationFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.semantic.train import SemanticSegmentationTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class SemanticSegmentationFinetune(Finetuner, SemanticSegmentationTrainer):
    """Fine-tune a pruned semantic segmentation model."""

    task = "semantic"


class SemanticSegmentationSparsifier(Sparsifier, SemanticSegmentationTrainer):
    """Train a semantic segmentation model with a sparsity regulariser, so that it can be pruned at less loss."""


class SemanticSegmentationCompressor(Compressor, SemanticSegmentationTrainer):
    """Prune a semantic segmentation model."""

    task = "semantic"
    trainer = SemanticSegmentationTrainer
    sparsifier = SemanticSegmentationSparsifier
    finetuner = SemanticSegmentationFinetune
