# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress oriented detection models."""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.obb.train import OBBTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class OBBFinetune(Finetuner, OBBTrainer):
    """Fine-tune a pruned oriented detection model.

    Examples:
        >>> from ultralytics.models.yolo.obb.compress import OBBFinetune
        >>> overrides = {"model": "prune.pt", "data": "dota8.yaml", "epochs": 100}
        >>> OBBFinetune(overrides=overrides).train()
    """

    task = "obb"


class OBBSparsifier(Sparsifier, OBBTrainer):
    """Train an oriented detection model with a sparsity regulariser, so that it can be pruned at less loss.

    Examples:
        >>> from ultralytics.models.yolo.obb.compress import OBBSparsifier
        >>> overrides = {"model": "best-obb.pt", "data": "dota8.yaml", "prune_method": "slim"}
        >>> OBBSparsifier(overrides=overrides).train()
    """


class OBBCompressor(Compressor, OBBTrainer):
    """Prune an oriented detection model.

    Examples:
        >>> from ultralytics.models.yolo.obb.compress import OBBCompressor
        >>> overrides = {"model": "best-obb.pt", "data": "dota8.yaml", "speed_up": 2.0}
        >>> OBBCompressor(overrides=overrides).compress()
    """

    task = "obb"
    trainer = OBBTrainer
    sparsifier = OBBSparsifier
    finetuner = OBBFinetune
