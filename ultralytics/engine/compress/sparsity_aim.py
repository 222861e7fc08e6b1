# SPDX-License-Identifier: AGPL-3.0-or-later
"""When a model is sparse enough: the units that are small are enough for the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from ultralytics.engine.pruning.budget.costs import COUNTED
from ultralytics.engine.pruning.budget.target import Budget, build_cost, wanted_ratio
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.sparsity.units import Units

Cost = Callable[[Sequence[float] | np.ndarray], np.ndarray]


class Aim:
    """What a network may cost after the cut, as a question to the units that a training has made small."""

    def __init__(self, units: Units, cost: Cost, most: float):
        """Take the units and what they may cost.

        Args:
            units (Units): Units of the model.
            cost (Cost): Units kept in each group, shape (groups,), to the cost of the network.
            most (float): What the network may cost.
        """
        self._units, self._cost, self._most = units, cost, most

    def is_met(self, small: torch.Tensor) -> bool:
        """Return True if the network would meet the target without the small units; every group keeps one.

        Args:
            small (torch.Tensor): True for small units, shape (units,).
        """
        kept = torch.bincount(self._units.group[~small], minlength=self._units.groups).clamp_min(1)
        return float(self._cost(kept.cpu().numpy())) <= self._most


def find_aim(model: nn.Module, graph: Graph, units: Units, args: SimpleNamespace) -> Aim | None:
    """Return the aim of a sparsity training.

    Args:
        model (nn.Module): Stock model.
        graph (Graph): Its graph.
        units (Units): Its units.
        args (SimpleNamespace): Arguments of the run, of which the keys of the budget are read.

    Returns:
        (Aim | None): None for a budget in time, which would have to be measured for it.

    Raises:
        OutOfReachError: If the model costs no more than an absolute target.
    """
    budget = Budget.from_args(args)
    if budget.budget not in COUNTED:
        return None
    cost = build_cost(model, budget)
    formula, ratio = cost.formula(graph), wanted_ratio(cost, budget)
    return Aim(units, formula, formula.dense / ratio)
