# SPDX-License-Identifier: AGPL-3.0-or-later
"""Strength of the regulariser in a sparsity training: its schedule, and what its steps would have needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from ultralytics.cfg.compress.compat.training import warmup_iterations
from ultralytics.engine.compress.stock import StockTrainer

EPS = 1e-9  # of a training whose learning rate is 0


class Plan(NamedTuple):
    """What the optimizer steps of a training amount to.

    Attributes:
        updates (float): Number of steps.
        pull (float): Sum of lr · decay / (1 - momentum) over them.
    """

    updates: float
    pull: float


def decay_at(epoch: int, epochs: int, args: SimpleNamespace) -> float:
    """Return the regulariser's strength in an epoch, as a share of that at the start.

    Args:
        epoch (int): Epoch, from 0.
        epochs (int): Number of epochs.
        args (SimpleNamespace): 'reg_decay_type' is 'constant', 'linear' (falls to reg_decay in the last epoch) or
            'step' (is multiplied by reg_decay every 'reg_decay_step' epochs).
    """
    return DECAYS[args.reg_decay_type](epoch, epochs, args)


DECAYS = {
    "constant": lambda epoch, epochs, args: 1.0,
    "linear": lambda epoch, epochs, args: 1 - (1 - args.reg_decay) * epoch / max(epochs - 1, 1),
    "step": lambda epoch, epochs, args: args.reg_decay ** (epoch // args.reg_decay_step),
}


def plan(trainer: StockTrainer, epochs: int) -> Plan:
    """Return what the first epochs of a training amount to, by its schedules of learning rate and strength.

    By `pull`, times 'reg', plain SGD moves a scale that nothing but the regulariser pulls.

    Args:
        trainer (StockTrainer): A `Sparsifier` that is set up.
        epochs (int): How many of its epochs count.
    """
    args, batches = trainer.prune_args, len(trainer.train_loader)
    rising = warmup_iterations(trainer, batches)
    batch = np.arange(epochs * batches)
    warm = np.minimum(batch / rising, 1) if rising else np.ones(len(batch))
    steps = _steps(warm, trainer.args.nbs / trainer.batch_size)
    strength = [trainer.lf(epoch) * decay_at(epoch, trainer.epochs, args) for epoch in range(epochs)]
    total = (warm * steps).reshape(epochs, batches).sum(1) @ np.array(strength)
    return Plan(float(steps.sum()), float(total * trainer.args.lr0 / (1 - trainer.args.momentum)))


def _steps(warm: np.ndarray, ratio: float) -> np.ndarray:
    """Return how many optimizer steps each batch makes, shape (batches,).

    Args:
        warm (np.ndarray): How far the warm-up has come at every batch, 0 to 1, shape (batches,).
        ratio (float): Batches to a step after the warm-up, before they are rounded.
    """
    accumulate = np.maximum(np.round(1 + warm * (ratio - 1)), 1)
    steps, last = 1 / accumulate, -1
    for batch in range(np.count_nonzero(warm < 1)):  # where batches to a step become more, the rounding counts
        steps[batch] = batch - last >= accumulate[batch]
        last = batch if steps[batch] else last
    return steps


def reach(trainer: StockTrainer) -> float:
    """Return the `pull` of the optimizer steps that a training has made so far.

    Args:
        trainer (StockTrainer): A `Sparsifier` after an epoch.
    """
    planned = plan(trainer, trainer.epoch + 1)
    return planned.pull * trainer.ema.updates / planned.updates


class Strength(NamedTuple):
    """With what a regulariser begins, and how much it grows by an optimizer step if it `GROWS`."""

    reg: float
    delta_reg: float


def needed_strength(trainer: StockTrainer) -> Strength:
    """Return what a training's steps need to come to the regulariser's `WORKED`.

    Args:
        trainer (StockTrainer): A `Sparsifier` that is set up.
    """
    regulariser, whole = trainer.regulariser, plan(trainer, trainer.epochs)
    if regulariser.GROWS:
        return Strength(0.0, regulariser.WORKED / whole.updates)
    return Strength(regulariser.WORKED / max(whole.pull, EPS), 0.0)


def strength_for(args: SimpleNamespace, needed: Strength) -> Strength:
    """Return what is needed where 'reg' or 'delta_reg' are not given."""
    return Strength(*(own if vars(args)[key] is None else vars(args)[key] for key, own in needed._asdict().items()))


def advice(trainer: StockTrainer, share: float) -> str:
    """Return what a training that has made nothing small would have needed.

    Args:
        trainer (StockTrainer): A `Sparsifier` after its last epoch.
        share (float): Share of units that are small.

    Returns:
        (str): The key to change and its value for as many steps.
    """
    regulariser, steps = trainer.regulariser, trainer.ema.updates
    reg, delta_reg = strength_for(trainer.prune_args, needed_strength(trainer))
    begin = f"{share:.1%} of the units are small after {steps} optimizer steps, so the ranking has little to go by. "
    if regulariser.GROWS:
        needed = max(regulariser.ENOUGH / steps, 2 * delta_reg)
        return f"{begin}For as many steps set delta_reg={needed:.2g} instead of {delta_reg:.2g}, or train longer."
    optimizer = type(trainer.optimizer).__name__
    if optimizer not in {"SGD", "MuSGD"}:
        return f"{begin}optimizer={optimizer} rescales the regulariser's gradient: set optimizer=SGD."
    needed = max(regulariser.ENOUGH / max(reach(trainer), EPS), 2 * reg)
    return f"{begin}For as many steps set reg={needed:.2g} instead of {reg:.2g}, or train longer."
