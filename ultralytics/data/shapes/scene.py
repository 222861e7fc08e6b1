# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pictures of shapes on cluttered backgrounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ultralytics.data.shapes.look import Look
from ultralytics.data.shapes.outline import Shape, random_blob, random_shape
from ultralytics.data.shapes.texture import SIZE, Y, random_fill, random_grey, vivid

SHAPES = 2, 6  # fewest and most shapes in a picture
VISIBLE = 0.7  # of every shape, at least this much stays uncovered
HUE_SPREAD = 0.7  # how far a shape's hue strays from the one its class leans to (radians, standard deviation)
DOT = 0.45, 0.2  # how far from the centre the dot lies, and how large it is, relative to the shape's radius
SHAPE_DISTANCE = 48  # a shape of 1 pixel's radius is this far away (metres): all are of one size and shrink with it
FLOOR_NEAR = 3.0  # the background is a floor that begins so far away at the lower edge (metres) ...
FLOOR_FAR = 5.0, 9.0  # ... and ends between these at the upper edge
HAZE_DISTANCE, HAZE = 6.0, 190.0  # where haze hides all but 1/e of a colour (metres), and the haze's grey


@dataclass
class Scene:
    """One picture, what it shows and how far away that is.

    Attributes:
        picture (np.ndarray): BGR picture, (SIZE, SIZE, 3).
        shapes (list[Shape]): Its shapes, each over the earlier ones.
        depth (np.ndarray | None): Distance of every pixel in metres, (SIZE, SIZE), in deep pictures.
    """

    picture: np.ndarray
    shapes: list[Shape]
    depth: np.ndarray | None = None


def draw_background(rng: np.random.Generator) -> np.ndarray:
    """Return a dull picture with blobs and lines strewn over it, some of them as vivid as the shapes."""
    picture = random_fill(rng, random_grey(rng))
    for _ in range(rng.integers(2, 6)):
        blob = random_blob(rng)
        colour = vivid(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.5 else random_grey(rng)
        picture[blob] = random_fill(rng, colour)[blob]
    for _ in range(rng.integers(2, 7)):
        begin, end = rng.integers(0, SIZE, (2, 2)).tolist()
        cv2.line(picture, begin, end, rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 4)))
    return picture


def lay_over(shapes: list[Shape], shape: Shape) -> list[Shape]:
    """Return the shapes with one more, which covers what it lies on."""
    return [*(replace(earlier, visible=earlier.visible & ~shape.whole) for earlier in shapes), shape]


def place_shapes(rng: np.random.Generator, classes: Iterable[int], kinds: list[str], look: Look) -> list[Shape]:
    """Return shapes of these classes, each laid over the earlier ones without hiding any of them."""
    shapes: list[Shape] = []
    for cls in classes:
        for _ in range(20):  # a crowded picture may have no room left: go on without this shape
            placed = lay_over(shapes, random_shape(rng, cls, kinds[cls], look))
            if all(shape.visible.sum() >= VISIBLE * shape.whole.sum() for shape in placed):
                shapes = placed
                break
    return shapes


def nearest_last(shapes: list[Shape]) -> list[Shape]:
    """Return the shapes laid over each other from the farthest to the nearest."""
    ordered: list[Shape] = []
    for shape in sorted(shapes, key=lambda shape: shape.radius):
        ordered = lay_over(ordered, replace(shape, visible=shape.whole))
    return ordered


def draw_dot(picture: np.ndarray, shape: Shape) -> None:
    """Paint a white dot on a shape, between its centre and its first tip."""
    distance, radius = np.array(DOT) * shape.radius
    x, y = shape.centre + distance * np.array([np.cos(shape.turn), np.sin(shape.turn)])
    rows, columns = np.mgrid[:SIZE, :SIZE]
    picture[(np.hypot(columns - x, rows - y) <= radius) & shape.visible] = 255


def measure_depth(rng: np.random.Generator, shapes: list[Shape]) -> np.ndarray:
    """Return the distance of every pixel in metres: of the floor, or of the shape that stands before it."""
    depth = FLOOR_NEAR + (rng.uniform(*FLOOR_FAR) - FLOOR_NEAR) * (1 - Y)
    for shape in shapes:
        depth[shape.visible] = SHAPE_DISTANCE / shape.radius
    return depth


def draw_scene(rng: np.random.Generator, index: int, kinds: list[str], look: Look) -> Scene:
    """Return one picture and what it shows.

    Args:
        rng (np.random.Generator): Source of chance, the picture's own.
        index (int): Number of the picture in its split, which picks the class if there is a single shape.
        kinds (list[str]): Kind of shape of each class, keys of `TIPS`.
        look (Look): What the picture shows besides.

    Returns:
        (Scene): The scene.
    """
    picture = draw_background(rng)
    some = [index % len(kinds)] if look.single else rng.integers(0, len(kinds), rng.integers(SHAPES[0], SHAPES[1] + 1))
    shapes = place_shapes(rng, some, kinds, look)
    if look.deep:
        shapes = nearest_last(shapes)
    for shape in shapes:
        hue = 2 * np.pi * shape.cls / len(kinds) + rng.normal(0, HUE_SPREAD)
        picture[shape.visible] = random_fill(rng, vivid(hue))[shape.visible]
        if look.dotted:
            draw_dot(picture, shape)
    depth = None
    if look.deep:
        depth = measure_depth(rng, shapes)
        picture = HAZE + (picture - HAZE) * np.exp(-depth / HAZE_DISTANCE)[..., None]
    picture += rng.normal(0, rng.uniform(2, 16), picture.shape)  # camera noise
    return Scene(picture.clip(0, 255).astype(np.uint8), shapes, depth)
