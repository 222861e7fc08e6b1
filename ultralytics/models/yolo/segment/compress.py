# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress instance segmentation models."""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.segment.train import SegmentationTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class SegmentationFinetune(Finetuner, SegmentationTrainer):
    """Fine-tune a pruned instance segmentation model.

    Examples:
        >>> from ultralytics.models.yolo.segment.compress import SegmentationFinetune
        >>> overrides = {"model": "prune.pt", "data": "coco8-seg.yaml", "epochs": 100}
        >>> SegmentationFinetune(overrides=overrides).train()
    """

    task = "segment"


class SegmentationSparsifier(Sparsifier, SegmentationTrainer):
    """Train an instance segmentation model with a sparsity regulariser, so that it can be pruned at less loss.

    Examples:
        >>> from ultralytics.models.yolo.segment.compress import SegmentationSparsifier
        >>> overrides = {"model": "best-seg.pt", "data": "coco8-seg.yaml", "prune_method": "slim"}
        >>> SegmentationSparsifier(overrides=overrides).train()
    """


class SegmentationCompressor(Compressor, SegmentationTrainer):
    """Prune an instance segmentation model.

    Examples:
        >>> from ultralytics.models.yolo.segment.compress import SegmentationCompressor
        >>> overrides = {"model": "best-seg.pt", "data": "coco8-seg.yaml", "speed_up": 2.0}
        >>> SegmentationCompressor(overrides=overrides).compress()
    """

    task = "segment"
    trainer = SegmentationTrainer
    sparsifier = SegmentationSparsifier
    finetuner = SegmentationFinetune
