# SPDX-License-Identifier: AGPL-3.0-or-later
"""Batches of a run's training loader, for what is measured on them: gradients and batch norm statistics."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.compress.compat.modules import forget_loss
from ultralytics.cfg.compress.compat.training import override_configs
from ultralytics.engine.pruning.graph.image_size import image_stride
from ultralytics.engine.pruning.ranking.scoring import Losses
from ultralytics.utils import DEFAULT_CFG_DICT, TQDM

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


def training_losses(trainer: BaseTrainer, batch: int) -> Losses:
    """Return what draws batches from the training loader and yields the model's own loss on each.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments.
        batch (int): Images in a loss; there are as many losses as 'prune_batches' batches of the run have images for.

    Returns:
        (Callable): Model to an iterator of scalar losses.
    """

    def losses(pruned: nn.Module) -> Iterator[torch.Tensor]:
        args, pruned.args = getattr(pruned, "args", None), trainer.args  # a classifier in training has none
        forget_loss(pruned)
        try:
            for data in training_batches(trainer, pruned, batch, "Gradients"):
                loss, _ = pruned(data)
                yield loss.sum()
        finally:
            pruned.args = args
            forget_loss(pruned)

    return losses


def training_images(
    trainer: BaseTrainer, model: nn.Module, batch: int, description: str = "Batch norms", images: int = 0
) -> Iterator[torch.Tensor]:
    """Yield the images of training batches, augmented as for training.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments.
        model (nn.Module): The model that they are for.
        batch (int): Images in a batch.
        description (str): What they are for; the progress bar says it.
        images (int): Images of all batches at least, by default those of 'prune_batches' batches of the run.

    Yields:
        (torch.Tensor): Images of shape (batch, C, H, W).
    """
    for data in training_batches(trainer, model, batch, description, images):
        yield data["img"]


def batch_to_measure(args: SimpleNamespace) -> int:
    """Return how many images a batch has outside of trainings, which find out themselves how many fit (AutoBatch).

    Args:
        args (SimpleNamespace): Arguments of the run; of 'batch', -1 and shares of the memory mean Ultralytics' default.
            Several GPUs share a batch in trainings, and measurements have one of them.

    Returns:
        (int): Images.
    """
    batch = int(args.batch) if args.batch >= 1 else DEFAULT_CFG_DICT["batch"]
    gpus = len(str(args.device or "").split(","))
    return max(batch // gpus, 1)


def training_batches(
    trainer: BaseTrainer, model: nn.Module, batch: int, description: str, images: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield batches of the training loader, which depend on the run's 'seed' and on what they are for, nothing else.

    The state of all random generators is put back afterwards.

    Args:
        trainer (BaseTrainer): A stock trainer that has its data set and arguments.
        model (nn.Module): The model that they are for.
        batch (int): Images in a batch. There are as many batches as 'prune_batches' of the run have images for, or all
            if the data set has fewer.
        description (str): What they are for; the progress bar says it.
        images (int): Images of all batches at least, 0 for those of 'prune_batches' batches of the run.

    Yields:
        (dict): Batch on the trainer's device.
    """
    count = math.ceil((images or trainer.prune_args.prune_batches * batch_to_measure(trainer.args)) / batch)
    with model_lent(trainer, model), seeded(trainer.args.seed, description):
        # every image is read a few times at most; and Ultralytics drops the last batch for compiled models
        with override_configs(trainer.args, {"cache": False, "compile": False}):
            loader = trainer.get_dataloader(trainer.data["train"], batch_size=batch, rank=-1, mode="train")
        for data in TQDM(islice(loader, count), total=min(count, len(loader)), desc=description):
            yield trainer.preprocess_batch(data)


@contextmanager
def model_lent(trainer: BaseTrainer, model: nn.Module) -> Iterator[None]:
    """Have a model stand for the trainer's until the block ends: loaders and preprocessing ask for its stride.

    Args:
        trainer (BaseTrainer): A stock trainer outside of its training.
        model (nn.Module): The model.
    """
    own = trainer.model
    trainer.model, trainer.stride = model, image_stride(model)
    try:
        yield
    finally:
        trainer.model = own


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's random generators for a measurement, and put their states back when it ends.

    Whatever has run before in this process, a resumed run measures the same.

    Args:
        seed (int): Seed of the run.
        name (str): Name of the measurement.
    """
    python, numpy = random.getstate(), np.random.get_state()
    own = crc32(f"{name} {seed}".encode())
    try:
        with torch.random.fork_rng():
            random.seed(own)
            np.random.seed(own)
            torch.manual_seed(own)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
