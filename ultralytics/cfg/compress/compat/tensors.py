# SPDX-License-Identifier: AGPL-3.0-or-later
"""What torch has had since 2.2 alone."""

from __future__ import annotations

from typing import Any

from torch.utils._pytree import tree_flatten


def tree_leaves(values: Any) -> list[Any]:
    """Return what lists, tuples and dictionaries within each other hold in the end."""
    return tree_flatten(values)[0]
