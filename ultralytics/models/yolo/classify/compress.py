# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress classification models."""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.classify.train import ClassificationTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class ClassificationFinetune(Finetuner, ClassificationTrainer):
    """Fine-tune a pruned classification model.

    Examples:
        >>> from ultralytics.models.yolo.classify.compress import ClassificationFinetune
        >>> overrides = {"model": "prune.pt", "data": "imagenet10", "epochs": 100}
        >>> ClassificationFinetune(overrides=overrides).train()
    """

    task = "classify"


class ClassificationSparsifier(Sparsifier, ClassificationTrainer):
    """Train a classification model with a sparsity regulariser, so that it can be pruned at less loss.

    Examples:
        >>> from ultralytics.models.yolo.classify.compress import ClassificationSparsifier
        >>> overrides = {"model": "best-cls.pt", "data": "imagenet10", "prune_method": "slim"}
        >>> ClassificationSparsifier(overrides=overrides).train()
    """


class ClassificationCompressor(Compressor, ClassificationTrainer):
    """Prune a classification model.

    Examples:
        >>> from ultralytics.models.yolo.classify.compress import ClassificationCompressor
        >>> overrides = {"model": "best-cls.pt", "data": "imagenet10", "speed_up": 2.0}
        >>> ClassificationCompressor(overrides=overrides).compress()
    """

    task = "classify"
    trainer = ClassificationTrainer
    sparsifier = ClassificationSparsifier
    finetuner = ClassificationFinetune
