# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress classification models.

Examples:
    >>> overrides = {"model": "best-cls.pt", "data": "imagenet10", "speed_up": 2.0}
    >>> prune_pt = ClassificationCompressor(overrides=overrides).compress()
    >>> ClassificationFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.classify.train import ClassificationTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class ClassificationFinetune(Finetuner, ClassificationTrainer):
    """Fine-tune a pruned classification model."""

    task = "classify"


class ClassificationSparsifier(Sparsifier, ClassificationTrainer):
    """Train a classification model with a sparsity regulariser, so that it can be pruned at less loss."""


class ClassificationCompressor(Compressor, ClassificationTrainer):
    """Prune a classification model."""

    task = "classify"
    trainer = ClassificationTrainer
    sparsifier = ClassificationSparsifier
    finetuner = ClassificationFinetune
