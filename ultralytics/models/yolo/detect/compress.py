# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress detection models."""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.detect.train import DetectionTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class DetectionFinetune(Finetuner, DetectionTrainer):
    """Fine-tune a pruned detection model.

    Examples:
        >>> from ultralytics.models.yolo.detect.compress import DetectionFinetune
        >>> overrides = {"model": "prune.pt", "data": "coco8.yaml", "epochs": 100}
        >>> DetectionFinetune(overrides=overrides).train()
    """

    task = "detect"


class DetectionSparsifier(Sparsifier, DetectionTrainer):
    """Train a detection model with a sparsity regulariser, so that it can be pruned at less loss.

    Examples:
        >>> from ultralytics.models.yolo.detect.compress import DetectionSparsifier
        >>> overrides = {"model": "best.pt", "data": "coco8.yaml", "epochs": 100, "prune_method": "slim", "reg": 0.001}
        >>> DetectionSparsifier(overrides=overrides).train()
    """


class DetectionCompressor(Compressor, DetectionTrainer):
    """Prune a detection model.

    Examples:
        >>> from ultralytics.models.yolo.detect.compress import DetectionCompressor
        >>> overrides = {"model": "best.pt", "data": "coco8.yaml", "speed_up": 2.0}
        >>> DetectionCompressor(overrides=overrides).compress()
        'runs/detect/compress/weights/prune.pt'
    """

    task = "detect"
    trainer = DetectionTrainer
    sparsifier = DetectionSparsifier
    finetuner = DetectionFinetune
