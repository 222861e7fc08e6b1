# SPDX-License-Identifier: AGPL-3.0-or-later
"""Values that the keys of the compress mode may take, beyond the types that Ultralytics checks."""

from __future__ import annotations

from typing import Any, NamedTuple


class Bound(NamedTuple):
    """Open lower and closed upper bound of a number."""

    above: float
    up_to: float = float("inf")


# Names of the criteria are checked against the table in `ultralytics.engine.pruning.ranking.methods`
RANGES = {"speed_up": Bound(1.0), "max_sparsity": Bound(0.0, 1.0)}
INT_MIN = {"round_to": 1, "iterative_steps": 1, "prune_batches": 1, "sl_epochs": 0, "reg_decay_step": 1}
NOT_NEGATIVE = ("reg", "reg_decay", "delta_reg", "sensitivity_drop")
CHOICES = {
    "reg_decay_type": ("constant", "linear", "step"),
    "budget": ("flops", "onnx", "pytorch"),  # the keys of `ultralytics.engine.pruning.budget.costs.COSTS`
}


def is_sweep(speed_up: Any) -> bool:
    """Return True for a list of targets."""
    return isinstance(speed_up, (list, tuple))


def sweep_targets(cfg: dict) -> list:
    """Return the targets if 'speed_up' is a list of them, else an empty list.

    Args:
        cfg (dict): Configuration.

    Returns:
        (list): Targets, unchecked.

    Raises:
        ValueError: If the list is empty, or has a target twice.
    """
    targets = cfg.get("speed_up")
    if not is_sweep(targets):
        return []
    if not targets or any(target in targets[:i] for i, target in enumerate(targets)):
        raise ValueError(f"'speed_up={targets}' is an invalid value. A sweep needs one target or more, all different.")
    return list(targets)


def check_prune_cfg(cfg: dict) -> None:
    """Check the values of the compress mode's keys.

    Args:
        cfg (dict): Configuration whose types Ultralytics' `check_cfg` has already checked.

    Raises:
        ValueError: If a value is outside its range or is none of the known names.
    """
    from ultralytics.engine.pruning.ranking.methods import METHODS

    for k, bound in RANGES.items():
        v = cfg.get(k)
        if v is not None and not bound.above < v <= bound.up_to:
            limit = f" and at most {bound.up_to}" if bound.up_to < float("inf") else ""
            raise ValueError(f"'{k}={v}' is an invalid value. '{k}' must be greater than {bound.above}{limit}.")
    for k in NOT_NEGATIVE:
        v = cfg.get(k)
        if v is not None and v < 0:
            raise ValueError(f"'{k}={v}' is an invalid value. '{k}' must not be negative.")
    for k, names in {**CHOICES, "prune_method": tuple(METHODS)}.items():
        v = cfg.get(k)
        if v is not None and v not in names:
            raise ValueError(f"'{k}={v}' is invalid. Valid '{k}' values are {', '.join(names)}.")
