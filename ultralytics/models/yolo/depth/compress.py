# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress depth estimation models.

Examples:
    >>> overrides = {"model": "best-depth.pt", "data": "depth8.yaml", "speed_up": 2.0}
    >>> prune_pt = DepthCompressor(overrides=overrides).compress()
    >>> DepthFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from ultralytics.cfg.compress.activation import activate
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.models.yolo.depth.train import DepthTrainer

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class DepthFinetune(Finetuner, DepthTrainer):
    """Fine-tune a pruned depth estimation model."""

    task = "depth"


class DepthSparsifier(Sparsifier, DepthTrainer):
    """Train a depth estimation model with a sparsity regulariser, so that it can be pruned at less loss."""


class DepthCompressor(Compressor, DepthTrainer):
    """Prune a depth estimation model."""

    task = "depth"
    trainer = DepthTrainer
    sparsifier = DepthSparsifier
    finetuner = DepthFinetune
