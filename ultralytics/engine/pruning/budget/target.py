# SPDX-License-Identifier: AGPL-3.0-or-later
"""The target: what a pruned network may cost, in which unit, and how channels are taken from its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

from torch import nn

from ultralytics.cfg.compress.keys import DEFAULTS, FILE_HINT, check, check_one_target, is_file, is_sweep
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.budget.costs import COSTS, Cost
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.graph.groups import Graph, Group
from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES

ELSEWHERE = ", ".join(name for name in RUNTIMES if name in KITS)  # runtimes that a runner can reach


@dataclass(frozen=True)
class Budget:
    """A target in FLOPs, weights or time, with bounds; the defaults are those of the command line.

    Attributes:
        speed_up (float): Target: cost of the dense model over cost of the pruned one, greater than 1.
        budget (str): What the cost is: 'flops', 'params' (parameters), 'size' (bytes of the exported weights), or
            measured milliseconds of one image in a runtime of `ultralytics.engine.pruning.latency.runtimes.RUNTIMES`,
            or those of the device that has written the answer.json whose path this is.
        global_pruning (bool): Rank the channels of all layers together, or remove the same share from every layer.
        round_to (int): Keep a multiple of this many channels per layer, or all of them.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].
        imgsz (int): Image size in pixels at which milliseconds are measured.
        target (float, optional): The cost itself instead of `speed_up`, in GFLOPs, millions of parameters, megabytes or
            milliseconds.
        precision (str): How weights are stored, for 'size': fp32, fp16 or int8; or in what a runtime computes.
        runner (str, optional): Command in front of a shell's on the device that is measured, i.e. 'ssh pi@board'.
        limits (Mapping[str, float]): Like `max_sparsity` for single groups, by the name of the convolution that they
            were found from, in prunable form: the halves of a C2f's cv1 are cv0 and cv1; see
            `ultralytics.engine.pruning.ranking.sensitivity.limits_from`.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range or the budget is unknown.
    """

    speed_up: float = 2.0
    budget: str = "flops"
    global_pruning: bool = True
    round_to: int = 8
    max_sparsity: float = 1.0
    imgsz: int = 640
    target: float | None = None
    precision: str = "fp32"
    runner: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        names = ("speed_up", "global_pruning", "round_to", "max_sparsity", "target", "precision", "runner")
        check({name: getattr(self, name) for name in names})
        if is_sweep(self.speed_up):
            raise TypeError(f"'speed_up={self.speed_up}' is of invalid type. A Budget has one speed_up.")
        check_one_target(self.speed_up, self.target)
        check_limits(self.limits)
        if not isinstance(self.budget, str):
            raise TypeError(
                f"'budget={self.budget}' is of invalid type {type(self.budget).__name__}. It must be a str."
            )
        if self.budget not in COSTS and not is_file(self.budget):
            raise ValueError(
                f"'budget={self.budget}' is invalid. Valid 'budget' values are {', '.join(COSTS)}, or {FILE_HINT}."
            )
        if self.budget not in RUNTIMES:
            check_no_device(self.budget, self.precision, self.runner)
        elif self.precision not in RUNTIMES[self.budget].precisions:
            valid = ", ".join(RUNTIMES[self.budget].precisions)
            raise ValueError(f"'precision={self.precision}' is invalid with 'budget={self.budget}', which has {valid}.")
        elif self.runner and self.budget not in KITS:
            raise ValueError(
                f"'runner={self.runner}' is invalid with 'budget={self.budget}'. Another device measures {ELSEWHERE}."
            )

    @classmethod
    def from_args(cls, args: SimpleNamespace, limits: Mapping[str, float] | None = None) -> Budget:
        """Return the budget of a run.

        Args:
            args (SimpleNamespace): Arguments; those with the names of the attributes are read.
            limits (Mapping[str, float], optional): See the attribute.
        """
        names = ("speed_up", "budget", "global_pruning", "round_to", "max_sparsity", "imgsz")
        values = {name: getattr(args, name) for name in names}
        later = {name: getattr(args, name, DEFAULTS[name]) for name in ("target", "precision", "runner")}
        return cls(**values, **later, limits=limits or {})

    @property
    def name(self) -> str:
        """Return what the target counts and where, for records."""
        return f"{self.budget} at {self.runner}" if self.runner else self.budget

    @property
    def asked(self) -> str:
        """Return the target as the user has given it, i.e. 'speed_up=2.0'."""
        return f"speed_up={self.speed_up}" if self.target is None else f"target={self.target:g}"

    def largest_share(self, group: Group) -> float:
        """Return the largest share of a group's channels that may be removed."""
        return min(self.max_sparsity, self.limits.get(group.name, 1.0))


def check_limits(limits: Any) -> None:
    """Check that limits are shares by the names of groups.

    Args:
        limits (Any): See `Budget`.

    Raises:
        TypeError: If they are no mapping.
        ValueError: If one is no share.
    """
    if not isinstance(limits, Mapping):
        raise TypeError(
            f"'limits={limits}' is of invalid type {type(limits).__name__}. 'limits' must map names of groups to "
            "shares."
        )
    wrong = {
        name: share for name, share in limits.items() if not isinstance(share, (int, float)) or not 0 <= share <= 1
    }
    if wrong:  # NaN among them
        raise ValueError(f"'limits={wrong}' is invalid. Each group may lose a share of its channels from 0 to 1.")


def check_limits_known(limits: Mapping[str, float], graph: Graph) -> None:
    """Check that limits name groups of a network, as a limit of another name would hold for nothing.

    Args:
        limits (Mapping[str, float]): See `Budget`.
        graph (Graph): The network's.

    Raises:
        ValueError: If one does not.
    """
    known = {*(group.name for group in graph.groups), *graph.left_dense}  # what stays whole needs no limit
    for name in limits.keys() - known:
        near = get_close_matches(name, known) or sorted(known)[:3]
        raise ValueError(
            f"'limits' has '{name}', which names no group of the model. Similar names are {', '.join(near)}; "
            "those of all groups are in the rows of measure_sensitivity."
        )


def check_no_device(budget: str, precision: str, runner: str | None) -> None:
    """Refuse keys that say where to measure, with a budget that is not measured then.

    Args:
        budget (str): What is counted, or the answer of a device.
        precision (str): Value of 'precision'.
        runner (str, optional): Value of 'runner'.

    Raises:
        ValueError: If one of them is given.
    """
    if runner:
        raise ValueError(
            f"'runner={runner}' is invalid with 'budget={budget}', for which nothing is measured. Choose a runtime: "
            f"{ELSEWHERE}."
        )
    if precision != "fp32" and budget != "size":
        raise ValueError(f"'precision={precision}' is invalid with 'budget={budget}'. Leave it out.")


def build_cost(model: nn.Module, budget: Budget) -> Cost:
    """Return what a budget counts of a model.

    Args:
        model (nn.Module): Stock model before pruning.
        budget (Budget): Its 'budget', and the keys that go with it.

    Raises:
        ModuleNotFoundError: If a package is not installed.
        FileNotFoundError: If there is no such answer of a device.
        ValueError: If that is damaged, or of another model or image size.
        RunnerError: If a device cannot be reached, or measuring fails there.
    """
    if is_file(budget.budget):
        return AnswerCost(model, budget.imgsz, budget.budget)
    keys: dict[str, str] = {}
    if budget.budget == "size" or budget.precision != "fp32":
        keys["precision"] = budget.precision
    if budget.runner:
        keys["runner"] = budget.runner
    return COSTS[budget.budget](model, budget.imgsz, **keys)


def wanted_ratio(cost: Cost, budget: Budget) -> float:
    """Return the dense cost over the cost that a budget allows.

    Args:
        cost (Cost): What the budget counts.
        budget (Budget): The target.

    Raises:
        OutOfReachError: If the dense model costs no more than an absolute target.
    """
    if budget.target is None:
        return budget.speed_up
    dense = cost.dense_amount
    if dense <= budget.target:
        raise OutOfReachError(
            f"'{budget.asked}' is an invalid value: the dense model has {dense:.4g} {cost.symbol}. 'target' must be "
            "less.",
            reachable=1.0,
        )
    return dense / budget.target
