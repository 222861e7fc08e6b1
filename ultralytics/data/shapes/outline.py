# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where a shape lies: its outline, the pixels that it covers, and points and boxes in its own frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ultralytics.data.shapes.look import Look
from ultralytics.data.shapes.texture import SIZE

TIPS = {"circle": 32, "ellipse": 32, "triangle": 3, "square": 4, "rectangle": 4, "star": 5}
STAR_DENT = 0.42  # radius of a star between its tips, relative to the radius at the tips


@dataclass
class Shape:
    """One shape of a picture. Its own frame has its origin in the centre and its first axis through the first tip.

    Attributes:
        cls (int): Class index.
        centre (np.ndarray): Centre (x, y), in pixels.
        radius (float): Distance within which the whole shape lies, in pixels.
        turn (float): Angle from the picture's x axis to the shape's first axis, in radians.
        whole (np.ndarray): True at every pixel of the shape, (SIZE, SIZE).
        visible (np.ndarray): True at those that no later shape covers.
    """

    cls: int
    centre: np.ndarray
    radius: float
    turn: float
    whole: np.ndarray
    visible: np.ndarray

    def edge_point(self, angle: float) -> np.ndarray:
        """Return where a ray from the centre, at this angle to the first axis, leaves the whole shape (x, y)."""
        direction = np.array([np.cos(self.turn + angle), np.sin(self.turn + angle)])
        ray = self.centre + np.arange(0, self.radius, 0.25)[:, None] * direction
        columns, rows = np.round(ray).astype(int).T
        return ray[self.whole[rows, columns]][-1]

    def rotated_box(self) -> np.ndarray:
        """Return the corners (x, y) of the smallest box, parallel to the shape's axes, around its visible part."""
        axes = turned_axes(self.turn)
        rows, columns = np.nonzero(self.visible)
        own = (np.stack([columns, rows], 1) - self.centre) @ axes.T
        (left, top), (right, bottom) = own.min(0) - 0.5, own.max(0) + 0.5
        return self.centre + np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ axes


def turned_axes(turn: float) -> np.ndarray:
    """Return the two axes of a frame at this angle to the picture's, one per row."""
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def polygon(radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the corners (x, y) that lie at these radii, in equal steps around the origin."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii)[:, None]


def fill_polygon(corners: np.ndarray) -> np.ndarray:
    """Return a mask that is True inside the polygon with these corners (x, y)."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return mask.astype(bool)


def shape_corners(kind: str) -> np.ndarray:
    """Return the corners of a shape of this kind in its own frame, at most 1 from its centre."""
    return polygon([1, STAR_DENT] * TIPS[kind] if kind == "star" else [1] * TIPS[kind])


def stretched_corners(kind: str, ratio: float) -> np.ndarray:
    """Return the corners of a shape whose box, with its corners 1 from the centre, is ratio times as long as wide."""
    corners = shape_corners(kind)
    if kind == "rectangle":
        corners = corners @ turned_axes(np.pi / 4)  # a corner of the square on the first axis would give a diamond
    low, high = corners.min(0), corners.max(0)
    return (2 * (corners - low) / (high - low) - 1) * [ratio, 1] / np.hypot(ratio, 1)


def random_shape(rng: np.random.Generator, cls: int, kind: str, look: Look) -> Shape:
    """Return one shape of this kind, whole inside the picture.

    Args:
        rng (np.random.Generator): Source of chance.
        cls (int): Class index.
        kind (str): A key of `TIPS`.
        look (Look): Sizes, proportions and turns that it may have.

    Returns:
        (Shape): The shape, with all of it visible.
    """
    radius = np.exp(rng.uniform(*np.log(look.radius)))
    centre, turn = rng.uniform(radius, SIZE - 1 - radius, 2), rng.uniform(0, 2 * np.pi)
    if look.lean is not None:
        turn = look.lean * (turn / np.pi - 1) - np.pi / 2  # y points down: up is -90 degrees
    corners = stretched_corners(kind, rng.uniform(*look.stretch)) if look.stretch else shape_corners(kind)
    mask = fill_polygon(centre + radius * corners @ turned_axes(turn))
    return Shape(int(cls), centre, radius, turn, mask, mask)


def random_blob(rng: np.random.Generator) -> np.ndarray:
    """Return the mask of a jagged blob that belongs to no class."""
    radii = rng.uniform(0.25, 1.0, rng.integers(7, 14)) * rng.uniform(8, 32)
    centre, turn = rng.uniform(0, SIZE, 2), rng.uniform(0, 2 * np.pi)
    return fill_polygon(centre + polygon(radii) @ turned_axes(turn))
