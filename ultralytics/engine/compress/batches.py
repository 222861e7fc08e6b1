# SPDX-License-Identifier: AGPL-3.0-or-later
"""Batches of a run's training loader, for what is measured on them: gradients and batch norm statistics."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ultralytics.engine.pruning.graph.image_size import image_stride
from ultralytics.engine.pruning.ranking.scoring import Losses
from ultralytics.utils import DEFAULT_CFG_DICT, TQDM

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


def training_losses(trainer: BaseTrainer, per_sample: bool) -> Losses:
    """Return what draws batches from the training loader and yields the model's own loss on each.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments; 'batch' images go into a loss and
            'prune_batches' losses into a score.
        per_sample (bool): One image per loss instead, for as many images in all.

    Returns:
        (Callable): Model to an iterator of scalar losses.
    """
    batch, count = batch_to_measure(trainer.args), trainer.prune_args.prune_batches
    batch, count = (1, count * batch) if per_sample else (batch, count)

    def losses(pruned: nn.Module) -> Iterator[torch.Tensor]:
        args, pruned.args, pruned.criterion = pruned.args, trainer.args, None
        for data in training_batches(trainer, pruned, batch, count, "Gradients"):
            loss, _ = pruned(data)
            yield loss.sum()
        pruned.args, pruned.criterion = args, None

    return losses


def training_images(trainer: BaseTrainer, model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the images of 'prune_batches' training batches, augmented as for training.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments.
        model (nn.Module): The model that they are for.

    Yields:
        (torch.Tensor): Images of shape (batch, C, H, W).
    """
    batch, count = batch_to_measure(trainer.args), trainer.prune_args.prune_batches
    for data in training_batches(trainer, model, batch, count, "Batch norms"):
        yield data["img"]


def batch_to_measure(args: SimpleNamespace) -> int:
    """Return how many images a batch has outside of trainings, which find out themselves how many fit (AutoBatch).

    Args:
        args (SimpleNamespace): Arguments of the run; of 'batch', -1 and shares of the memory mean Ultralytics' default.

    Returns:
        (int): Images.
    """
    return int(args.batch) if args.batch >= 1 else DEFAULT_CFG_DICT["batch"]


def training_batches(
    trainer: BaseTrainer, model: nn.Module, batch: int, count: int, description: str
) -> Iterator[dict[str, Any]]:
    """Yield batches of the training loader; the state of all random generators is put back afterwards.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments.
        model (nn.Module): The model that they are for; Ultralytics' loaders ask the trainer's model for its stride.
        batch (int): Images in a batch.
        count (int): Batches, or all if the data set has fewer.
        description (str): What the progress bar says.

    Yields:
        (dict): Batch on the trainer's device.
    """
    trainer.model = model
    trainer.stride = image_stride(model)  # read by the stock preprocessing with multi_scale
    with random_state_kept():
        loader = trainer.get_dataloader(trainer.data["train"], batch_size=batch, rank=-1, mode="train")
        for data in TQDM(islice(loader, count), total=min(count, len(loader)), desc=description):
            yield trainer.preprocess_batch(data)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the state of Python's, NumPy's and torch's random generators back when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
