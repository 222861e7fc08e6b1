# SPDX-License-Identifier: AGPL-3.0-or-later
"""Batch norm statistics of a network after a cut."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.utils import LOGGER


def recalibrate(model: nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Measure the statistics of all batch norms anew, in place.

    A layer that has lost inputs puts out other means and variances than those that its batch norm learnt. The new ones
    are the plain averages over the batches. Weights are left as they are, and so are the statistics of batch norms that
    these passes do not reach (branches of training alone).

    Args:
        model (nn.Module): Float model; it is in evaluation mode afterwards.
        images (Iterable[torch.Tensor]): Batches of shape (B, C, H, W); those of one image are left out.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = [(m.momentum, deepcopy(m.state_dict())) for m in norms]
    model.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative average
        m.train()
    count, complete = 0, False
    try:
        with torch.no_grad():
            for batch in images:
                if len(batch) > 1:  # of one image and one pixel a channel has no variance
                    model(batch)
                    count += 1
        complete = True
    finally:
        for m, (momentum, state) in zip(norms, before):
            m.momentum = momentum
            if not complete or not m.num_batches_tracked:
                m.load_state_dict(state)
        model.eval()
    if not count:
        LOGGER.warning("batch norm statistics are those of the dense model: there is no batch of two or more images")
