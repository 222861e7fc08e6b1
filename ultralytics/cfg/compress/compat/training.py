# SPDX-License-Identifier: AGPL-3.0-or-later
"""What trainers offer, and the helpers around them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.dist import generate_ddp_file

BUILDS_PIPELINE = hasattr(BaseTrainer, "_build_train_pipeline")  # loaders and optimizer, in a method of their own
CARRIES_CALLBACKS = "callbacks" in generate_ddp_file.__code__.co_names  # to the workers of a distributed training
_BUILDING = BaseTrainer.build_optimizer.__code__
_CONSTANTS = {text for c in _BUILDING.co_consts for text in (c if isinstance(c, frozenset) else (c,))}
_SPELLINGS = ("auto", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp", "RMSprop", "SGD", "MuSGD")
OPTIMIZERS = tuple(name for name in _SPELLINGS if name in _CONSTANTS)
IGNORES_CASE = "lower" in _BUILDING.co_names  # of an optimizer's name
KEEPS_WORLD_SIZE = "world_size" in BaseTrainer.__init__.__code__.co_names  # older trainers hand it from call to call


def items_of(pair: Any, loss: torch.Tensor) -> Any:
    """Return the items of a student's loss that is all zero, as its distillation takes them: by name, or as a tensor.

    Args:
        pair (DistillationModel): Teacher and student.
        loss (torch.Tensor): The zeros.
    """
    return {} if "dis_loss" in type(pair).loss.__code__.co_consts else loss


def is_optimizer(name: Any) -> bool:
    """Return True for the name of an optimizer that trainers build."""
    spell = str.lower if IGNORES_CASE else str
    return spell(str(name)) in map(spell, OPTIMIZERS)


def is_distributed(trainer: BaseTrainer) -> bool:
    """Return True in the process that starts the workers of a distributed training."""
    return getattr(trainer, "ddp", gpu_count(trainer) > 1 and "LOCAL_RANK" not in os.environ)


def gpu_count(trainer: BaseTrainer) -> int:
    """Return how many devices a trainer's 'device' names, as older trainers read it, which note nothing."""
    device = trainer.args.device
    return len(device) if isinstance(device, (list, tuple)) else len(str(device or "").split(","))


def read_dataset(trainer: BaseTrainer) -> dict[str, Any]:
    """Return the data set of a trainer; older ones keep it and return its two splits.

    Raises:
        KeyError: If it lacks what the run needs, which older ones do not check.
    """
    found = trainer.get_dataset()
    data = found if isinstance(found, dict) else trainer.data
    if not data.get(trainer.args.split):
        raise KeyError(f"'{trainer.args.split}:' images not found")
    if trainer.args.task == "pose" and "kpt_shape" not in data:
        raise KeyError("it has no 'kpt_shape'")
    return data


def warmup_iterations(trainer: BaseTrainer, batches: int) -> int:
    """Return over how many batches a trainer lets the learning rate rise; older ones say so in their loop alone."""
    if hasattr(trainer, "_get_warmup_iterations"):
        return trainer._get_warmup_iterations(batches)
    epochs = trainer.args.warmup_epochs
    return max(round(epochs * batches), 100) if epochs > 0 else 0


@contextmanager
def override_configs(args: SimpleNamespace, overrides: dict[str, Any]) -> Iterator[None]:
    """Give some arguments other values until the block ends; those that this Ultralytics does not know go again."""
    before = dict(vars(args))
    vars(args).update(overrides)
    try:
        yield
    finally:
        vars(args).clear()
        vars(args).update(before)
