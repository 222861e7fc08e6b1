# SPDX-License-Identifier: AGPL-3.0-or-later
"""Costs that are counted, not measured: FLOPs, parameters, and bytes of the exported weights."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property

from torch import nn

from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.flops_formula import FlopsFormula
from ultralytics.engine.pruning.budget.formula import ChannelFormula
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.weights import (
    PRECISIONS,
    as_exported,
    count_bytes,
    parameters_formula,
    size_formula,
)
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.utils.torch_utils import get_num_params

TOLERANCE = 0.03  # share by which a cost that is predicted may miss the target


class FlopsCost:
    """FLOPs as Ultralytics counts them, which a formula gives exactly unless a network computes outside its layers.

    Attributes:
        unit (str): What the cost is, for messages.
        symbol (str): The unit of `amount` and of an absolute target.
        doubt (str): What may be wrong with a measured cost, for messages.
        tolerance (float | None): How far a cut may miss the target and be corrected; None for a cost that is exact.
        calibrated (bool): Predictions go by what was measured of a pruned model.
        noise (bool): A measurement leaves it open whether the pruned model costs less.
        baseline_was_wrong (bool): The dense cost behind the last prediction was wrong; ignore that prediction's error.
    """

    unit = "FLOPs"
    symbol = "GFLOPs"
    tolerance: float | None = None
    doubt = ""
    baseline_was_wrong = False
    calibrated = False
    noise = False

    def __init__(self, dense: nn.Module, imgsz: int):
        """Take a model.

        Args:
            dense (nn.Module): Stock model before pruning.
            imgsz (int): Unused: FLOPs are those at 640 pixels, as Ultralytics states them.
        """
        self.dense = dense

    @staticmethod
    def recheck() -> bool:
        """Return False: nothing was measured that could have been disturbed."""
        return False

    @staticmethod
    def explain(error: OutOfReachError) -> str:
        """Return why a target is out of reach."""
        return str(error)

    def formula(self, graph: Graph) -> ChannelFormula:
        """Return the cost of a network as a function of the units that its groups keep."""
        formula = FlopsFormula(graph)
        if not formula.is_exact:
            self.tolerance = TOLERANCE
        return formula

    def amount(self, model: nn.Module) -> float:
        """Return the cost of a stock model in `symbol`."""
        return count_flops(model)

    @cached_property
    def dense_amount(self) -> float:
        """Return the cost of the dense model in `symbol`."""
        return self.amount(self.dense)

    def speed_up(self, pruned: nn.Module) -> float:
        """Return the cost of the dense model over that of a pruned stock model."""
        return self.dense_amount / self.amount(pruned)


class ParametersCost(FlopsCost):
    """Parameters as `model.info()` counts them, unfused."""

    unit = "parameters"
    symbol = "M parameters"

    def formula(self, graph: Graph) -> ChannelFormula:
        """Return the cost of a network as a function of the units that its groups keep."""
        return parameters_formula(graph)

    def amount(self, model: nn.Module) -> float:
        """Return the millions of parameters of a stock model."""
        return get_num_params(model) / 1e6


class SizeCost(FlopsCost):
    """Bytes of the weights in an exported file, which has its graph and metadata besides.

    Attributes:
        precision (str): A key of `PRECISIONS`.
    """

    symbol = "MB"
    tolerance = 0.01  # of a formula that is exact but for batch norms that stay in the exported model

    def __init__(self, dense: nn.Module, imgsz: int, precision: str = "fp32"):
        """Take a model.

        Args:
            dense (nn.Module): Stock model before pruning.
            imgsz (int): Unused: weights do not depend on it.
            precision (str): A key of `PRECISIONS`.

        Raises:
            ValueError: If there is no such precision.
        """
        super().__init__(dense, imgsz)
        if precision not in PRECISIONS:
            raise ValueError(f"'precision={precision}' is invalid. Valid values are {', '.join(PRECISIONS)}.")
        self.precision, self.unit = precision, f"bytes of {precision.upper()} weights"

    def formula(self, graph: Graph) -> ChannelFormula:
        """Return the cost of a network as a function of the units that its groups keep."""
        return size_formula(graph, self.precision)

    def amount(self, model: nn.Module) -> float:
        """Return the megabytes, of a million bytes each, of a stock model's exported weights."""
        return count_bytes(as_exported(deepcopy(model)), self.precision) / 1e6
