# SPDX-License-Identifier: AGPL-3.0-or-later
"""This package's own data sets, found by their bare name wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

DATASETS = Path(__file__).resolve().parents[1] / "datasets"


def own_dataset(data: str | Path) -> str | None:
    """Return the path of this package's data set of that name.

    Args:
        data (str | Path): Value of 'data'.

    Returns:
        (str | None): Path, or None if there is none.
    """
    own = DATASETS / Path(data).name
    return str(own) if str(data) == own.name and own.is_file() else None


def find_dataset(data: str | Path) -> str:
    """Return the path of this package's data set of that name, or the argument if there is none or such a file is here.

    Args:
        data (str | Path): Value of 'data'.

    Returns:
        (str): Path or name of the data set.
    """
    return str(data) if Path(data).exists() else own_dataset(data) or str(data)
