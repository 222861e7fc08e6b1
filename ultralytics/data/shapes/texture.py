# SPDX-License-Identifier: AGPL-3.0-or-later
"""Colours and patterns that shapes and backgrounds are filled with."""

from __future__ import annotations

import numpy as np

SIZE = 192  # picture width and height (pixels)
Y, X = np.mgrid[:SIZE, :SIZE] / SIZE  # where each pixel lies, 0 to 1


def random_grey(rng: np.random.Generator) -> np.ndarray:
    """Return a dull colour, near grey."""
    return rng.uniform(50, 200) + rng.uniform(-20, 20, 3)


def vivid(hue: float) -> np.ndarray:
    """Return the bright colour of a hue, an angle on the colour circle (radians)."""
    return 128 + 110 * np.cos(hue + np.array([0, 2, 4]) * np.pi / 3)


def random_fill(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Return a picture in lighter and darker tones of a colour: plain, gradient, stripes, checks or noise."""
    turn, bands = rng.uniform(0, np.pi), rng.uniform(6, 24)
    along = X * np.cos(turn) + Y * np.sin(turn)
    pattern = rng.choice(["plain", "gradient", "stripes", "checks", "noise"])
    if pattern == "plain":
        tone = np.zeros((SIZE, SIZE))
    elif pattern == "gradient":
        tone = (along - along.min()) / np.ptp(along)
    elif pattern == "stripes":
        tone = np.floor(along * bands) % 2
    elif pattern == "checks":
        tone = (np.floor(along * bands) + np.floor((Y * np.cos(turn) - X * np.sin(turn)) * bands)) % 2
    else:
        tone = rng.random((SIZE, SIZE))
    return colour * (1 - rng.uniform(0.2, 0.5) * tone[..., None])
