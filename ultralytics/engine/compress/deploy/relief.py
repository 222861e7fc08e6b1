# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which layers of an INT8 file stay in float: those whose quantisation costs the metric most, as measured."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ultralytics.utils import TQDM

PIECES = 20  # consecutive layers are tried together, so that there are no more validations than this
FEW = 16  # calibration pictures of a file that is only made to be measured

Quantise = Callable[[Sequence[str], Path], Path]  # layers that stay float and an empty folder, to a file in it


def no_metric(file: Path) -> float:
    """Return no metric: all files are alike."""
    return 0.0


class Relief:
    """Takes INT8 off a share of the layers, those that lose most by it first.

    Attributes:
        share (float): Share of the layers that stay float, in [0, 1).
    """

    def __init__(self, measure: Callable[[Path], float] = no_metric):
        """Keep how a file is judged.

        Args:
            measure (Callable): File to its main metric, higher is better; needed if any layer is to stay float.
        """
        self.measure, self.share = measure, 0.0
        self._ranked: list[list[str]] = []

    def choose(self, layers: Sequence[str], quantise: Quantise) -> list[str]:
        """Return the layers that stay float; they are ranked once, if any are to.

        Args:
            layers (Sequence[str]): Names of all that can be quantised, in the order in which they run.
            quantise (Callable): Layers that stay float and an empty folder, to a file in it.
        """
        if self.share and not self._ranked:
            self._ranked = self._rank(layers, quantise)
        return [name for piece in self._ranked[: math.ceil(self.share * len(self._ranked))] for name in piece]

    def _rank(self, layers: Sequence[str], quantise: Quantise) -> list[list[str]]:
        """Return the layers in pieces, the one first that alone in float leaves the highest metric."""
        indices = np.array_split(np.arange(len(layers)), min(PIECES, len(layers)))
        pieces = [[layers[i] for i in piece] for piece in indices]
        metrics = []
        for piece in TQDM(pieces, desc="Layers in float"):
            with tempfile.TemporaryDirectory() as folder:
                metrics.append(self.measure(quantise(piece, Path(folder))))
        return [pieces[i] for i in np.argsort([-metric for metric in metrics], kind="stable")]
