# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress RT-DETR models."""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.rtdetr.train import RTDETRTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class RTDETRFinetune(Finetuner, RTDETRTrainer):
    """Fine-tune a pruned RT-DETR model.

    Examples:
        >>> from ultralytics.models.rtdetr.compress import RTDETRFinetune
        >>> overrides = {"model": "prune.pt", "data": "coco8.yaml", "epochs": 100}
        >>> RTDETRFinetune(overrides=overrides).train()
    """

    task = "detect"


class RTDETRSparsifier(Sparsifier, RTDETRTrainer):
    """Train an RT-DETR model with a sparsity regulariser, so that it can be pruned at less loss.

    Examples:
        >>> from ultralytics.models.rtdetr.compress import RTDETRSparsifier
        >>> overrides = {"model": "rtdetr-best.pt", "data": "coco8.yaml", "prune_method": "slim"}
        >>> RTDETRSparsifier(overrides=overrides).train()
    """


class RTDETRCompressor(Compressor, RTDETRTrainer):
    """Prune an RT-DETR model.

    Examples:
        >>> from ultralytics.models.rtdetr.compress import RTDETRCompressor
        >>> overrides = {"model": "rtdetr-best.pt", "data": "coco8.yaml", "speed_up": 2.0}
        >>> RTDETRCompressor(overrides=overrides).compress()
    """

    task = "detect"
    trainer = RTDETRTrainer
    sparsifier = RTDETRSparsifier
    finetuner = RTDETRFinetune
