# SPDX-License-Identifier: AGPL-3.0-or-later
"""Strength of the regulariser in a sparsity training: its schedule, and what its steps would have needed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ultralytics.cfg.compress.compat.training import warmup_iterations
from ultralytics.engine.compress.stock import StockTrainer

EPS = 1e-9  # of a training whose learning rate is 0


def reg_at(epoch: int, epochs: int, args: SimpleNamespace) -> float:
    """Return the regulariser's strength in an epoch.

    Args:
        epoch (int): Epoch, from 0.
        epochs (int): Number of epochs.
        args (SimpleNamespace): 'reg' is the strength at the start. 'reg_decay_type' is 'constant', 'linear' (falls to
            reg_decay · reg in the last epoch) or 'step' (is multiplied by reg_decay every 'reg_decay_step' epochs).

    Returns:
        (float): Strength.
    """
    return args.reg * DECAYS[args.reg_decay_type](epoch, epochs, args)


DECAYS = {
    "constant": lambda epoch, epochs, args: 1.0,
    "linear": lambda epoch, epochs, args: 1 - (1 - args.reg_decay) * epoch / max(epochs - 1, 1),
    "step": lambda epoch, epochs, args: args.reg_decay ** (epoch // args.reg_decay_step),
}


def reach(trainer: StockTrainer) -> float:
    """Return the sum of lr · decay / (1 - momentum) over the optimizer steps of a training so far.

    By this, times 'reg', plain SGD moves a scale that nothing but the regulariser pulls.

    Args:
        trainer (StockTrainer): A `Sparsifier` after an epoch.

    Returns:
        (float): Sum, by the schedules of the learning rate, its warmup included, and of the strength.
    """
    args, batches, done = trainer.prune_args, len(trainer.train_loader), trainer.epoch + 1
    rising = warmup_iterations(trainer, batches)
    warmup = np.minimum(np.arange(done * batches) / rising, 1) if rising else np.ones(done * batches)
    strength = [trainer.lf(epoch) * DECAYS[args.reg_decay_type](epoch, trainer.epochs, args) for epoch in range(done)]
    total = (warmup.reshape(done, batches).mean(1) * strength).sum() * trainer.ema.updates / done
    return float(total * trainer.args.lr0 / (1 - trainer.args.momentum))


def advice(trainer: StockTrainer, share: float) -> str:
    """Return what a training that has made nothing small would have needed.

    Args:
        trainer (StockTrainer): A `Sparsifier` after its last epoch.
        share (float): Share of units that are small.

    Returns:
        (str): The key to change and its value for as many steps.
    """
    args, regulariser, steps = trainer.prune_args, trainer.regulariser, trainer.ema.updates
    begin = f"{share:.1%} of the units are small after {steps} optimizer steps, so the ranking has little to go by. "
    if regulariser.GROWS:
        needed = max(regulariser.ENOUGH / steps, 2 * args.delta_reg)
        return f"{begin}For as many steps set delta_reg={needed:.2g} instead of {args.delta_reg:g}, or train longer."
    optimizer = type(trainer.optimizer).__name__
    if optimizer not in {"SGD", "MuSGD"}:
        return f"{begin}optimizer={optimizer} rescales the regulariser's gradient: set optimizer=SGD."
    needed = max(regulariser.ENOUGH / max(reach(trainer), EPS), 2 * args.reg)
    return f"{begin}For as many steps set reg={needed:.2g} instead of {args.reg:g}, or train longer."
