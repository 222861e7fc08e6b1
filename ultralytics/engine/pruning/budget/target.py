# SPDX-License-Identifier: AGPL-3.0-or-later
"""The target: what a pruned network may cost, and how channels are taken from its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

from ultralytics.cfg.compress.keys import check
from ultralytics.engine.pruning.budget.costs import COSTS
from ultralytics.engine.pruning.graph.groups import Group


@dataclass(frozen=True)
class Budget:
    """A target in FLOPs or in time, with bounds; the defaults are those of the command line.

    Attributes:
        speed_up (float): Target: cost of the dense model over cost of the pruned one, greater than 1.
        budget (str): What the cost is: 'flops', or measured milliseconds of one image, 'onnx' in ONNX Runtime on the
            CPU, 'pytorch' in PyTorch on the model's device.
        global_pruning (bool): Rank the channels of all layers together, or remove the same share from every layer.
        round_to (int): Keep a multiple of this many channels per layer, or all of them.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].
        imgsz (int): Image size in pixels at which milliseconds are measured.
        limits (Mapping[str, float]): Like `max_sparsity` for single groups, by the name of the convolution that they
            were found from; see `ultralytics.engine.pruning.ranking.sensitivity.limits_from`.

    Raises:
        ValueError: If a value is out of range or the budget is unknown.
    """

    speed_up: float = 2.0
    budget: str = "flops"
    global_pruning: bool = True
    round_to: int = 8
    max_sparsity: float = 1.0
    imgsz: int = 640
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        check({name: getattr(self, name) for name in ("speed_up", "global_pruning", "round_to", "max_sparsity")})
        if self.budget not in COSTS:
            raise ValueError(f"'budget={self.budget}' is invalid. Valid 'budget' values are {', '.join(COSTS)}.")

    @classmethod
    def from_args(cls, args: SimpleNamespace, limits: Mapping[str, float] | None = None) -> Budget:
        """Return the budget of a run.

        Args:
            args (SimpleNamespace): Arguments; those with the names of the attributes are read.
            limits (Mapping[str, float], optional): See the attribute.
        """
        names = ("speed_up", "budget", "global_pruning", "round_to", "max_sparsity", "imgsz")
        return cls(**{name: getattr(args, name) for name in names}, limits=limits or {})

    def largest_share(self, group: Group) -> float:
        """Return the largest share of a group's channels that may be removed."""
        return min(self.max_sparsity, self.limits.get(group.name, 1.0))
