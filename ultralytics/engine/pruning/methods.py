# SPDX-License-Identifier: AGPL-3.0-or-later
"""The methods that a user can name in `prune_method`, one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from ultralytics.engine.pruning import criteria

if TYPE_CHECKING:
    from ultralytics.engine.pruning.groups import Group


class Method(NamedTuple):
    """How a method ranks channels.

    Attributes:
        score (Callable): Group of n units to scores of shape (n,).
        description (str): What the scores say.
        source (str): Paper that the criterion comes from.
    """

    score: Callable[[Group], torch.Tensor]
    description: str
    source: str


METHODS = {
    "lamp": Method(criteria.lamp, "layer-adaptive magnitude", "Lee et al. 2021, arXiv 2010.07611"),
}
