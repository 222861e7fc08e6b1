# SPDX-License-Identifier: AGPL-3.0-or-later
"""Drawing options of each task's data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """What pictures show; as it stands, some shapes of any class in any turn on a cluttered background.

    Attributes:
        radius (tuple[float, float]): Smallest and largest shape, in pixels.
        single (bool): One shape a picture, of each class in turn.
        stretch (tuple[float, float] | None): How many times as long as wide shapes are. None keeps them regular.
        lean (float | None): How far a shape's tip turns from straight up, in radians. None lets it point anywhere.
        dotted (bool): A white dot marks each shape's tip.
        deep (bool): Shapes and background lie at distances, with the nearer in front of the farther, in haze.
    """

    radius: tuple[float, float] = (18, 48)
    single: bool = False
    stretch: tuple[float, float] | None = None
    lean: float | None = None
    dotted: bool = False
    deep: bool = False
