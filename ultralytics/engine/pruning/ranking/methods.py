# SPDX-License-Identifier: AGPL-3.0-or-later
"""The methods that a user can name in `prune_method`, one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from ultralytics.engine.pruning.ranking import criteria
from ultralytics.engine.pruning.sparsity import regularisers


class Method(NamedTuple):
    """How a method ranks channels.

    Attributes:
        criterion (Callable): Group of n units to scores of shape (n,).
        description (str): What the scores say.
        source (str): Paper that the criterion comes from.
        needs_gradients (bool): The criterion reads gradients of the loss; its scores change as channels go.
        per_sample (bool): Each of these gradients must be of a single image's loss.
        needs_seed (bool): The criterion takes a seed.
        needs_norms (bool): The criterion reads batch norms; groups without one stay whole.
        regulariser (type, optional): What the sparsity training before pruning adds to the loss, for methods that rank
            what such a training has driven towards zero.
        chosen_by (str, optional): Method that chooses what the target will remove, before a sparsity training that
            shrinks it.
    """

    criterion: Callable[..., torch.Tensor]
    description: str
    source: str
    needs_gradients: bool = False
    per_sample: bool = False
    needs_seed: bool = False
    needs_norms: bool = False
    regulariser: type[regularisers.Regulariser] | None = None
    chosen_by: str | None = None

    @property
    def trains_towards_target(self) -> bool:
        """Return True if the sparsity training shrinks what the target will remove, chosen before it."""
        return self.chosen_by is not None


METHODS = {
    "lamp": Method(criteria.lamp, "layer-adaptive magnitude", "Lee et al. 2021, arXiv 2010.07611"),
    "l1": Method(criteria.l1, "group L1 norm", "Li et al. 2017, arXiv 1608.08710"),
    "random": Method(criteria.random, "seeded random", "baseline", needs_seed=True),
    "group_norm": Method(criteria.group_norm, "group L2 norm", "Fang et al. 2023, arXiv 2301.12900"),
    "group_taylor": Method(
        criteria.taylor, "first-order Taylor, group", "Molchanov et al. 2019, arXiv 1906.10771", needs_gradients=True
    ),
    "group_hessian": Method(
        criteria.hessian, "diagonal Hessian, group", "LeCun et al. 1989", needs_gradients=True, per_sample=True
    ),
    "slim": Method(
        criteria.bn_scale,
        "BatchNorm scale",
        "Liu et al. 2017, arXiv 1708.06519",
        needs_norms=True,
        regulariser=regularisers.ScaleL1,
    ),
    "group_slim": Method(
        criteria.bn_group_scale,
        "BatchNorm scale, grouped",
        "Friedman, Hastie & Tibshirani 2010, arXiv 1001.0736",
        needs_norms=True,
        regulariser=regularisers.ScaleGroupLasso,
    ),
    "group_sl": Method(
        criteria.group_norm,
        "group L2 norm",
        "Fang et al. 2023, arXiv 2301.12900",
        regulariser=regularisers.GroupShrinkage,
    ),
    "growing_reg": Method(
        criteria.group_norm,
        "group L2 norm",
        "Wang et al. 2021, arXiv 2012.09243",
        regulariser=regularisers.GrowingL2,
        chosen_by="group_taylor",  # by the norm, as the paper has it, much is lost: benchmarks/README.md
    ),
}


def find_method(name: str) -> Method:
    """Return a row of `METHODS`.

    Raises:
        ValueError: If there is no such method.
    """
    if name not in METHODS:
        raise ValueError(f"'prune_method={name}' is invalid. Valid 'prune_method' values are {', '.join(METHODS)}.")
    return METHODS[name]
