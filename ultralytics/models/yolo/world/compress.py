# SPDX-License-Identifier: AGPL-3.0-or-later
"""Compress YOLO-World models, whose classes are those that they were given before: no text encoder is needed.

Examples:
    >>> overrides = {"model": "mine-world.pt", "data": "coco8.yaml", "speed_up": 2.0}
    >>> prune_pt = WorldCompressor(overrides=overrides).compress()
    >>> WorldFinetune(overrides={**overrides, "model": prune_pt, "epochs": 100}).train()
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import nn

from ultralytics.cfg.compress.activation import activate
from ultralytics.cfg.compress.compat.devices import unwrap_model
from ultralytics.engine.compress.compressor import Compressor
from ultralytics.engine.compress.finetuner import Finetuner
from ultralytics.engine.compress.sparsifier import Sparsifier
from ultralytics.engine.pruning.checkpoint.marks import is_pruned
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.nn.tasks import WorldModel
from ultralytics.utils import RANK

activate()  # a drop-in copy has no start-up hook; elsewhere this changes nothing


class FixedTexts(DetectionTrainer):
    """A detection trainer of a World model, with the embeddings of the class names that the model carries."""

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """Return a World model of its YAML with the weights and class embeddings of another one."""
        if weights is None or is_pruned(weights):
            return super().get_model(cfg, weights, verbose)
        yaml = deepcopy(weights.yaml)
        model = WorldModel(yaml, ch=self.data["channels"], nc=self.data["nc"], verbose=verbose and RANK == -1)
        model.load(weights)
        model.txt_feats = weights.txt_feats.clone()
        return model

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the embeddings to a batch, for the loss."""
        return {**super().preprocess_batch(batch), "txt_feats": unwrap_model(self.model).txt_feats}


class WorldFinetune(Finetuner, FixedTexts):
    """Fine-tune a pruned World model."""

    task = "detect"
    gives_texts = True


class WorldSparsifier(Sparsifier, FixedTexts):
    """Train a World model with a sparsity regulariser, so that it can be pruned at less loss."""


class WorldCompressor(Compressor, FixedTexts):
    """Prune a World model."""

    task = "detect"
    gives_texts = True
    trainer = FixedTexts
    sparsifier = WorldSparsifier
    finetuner = WorldFinetune
