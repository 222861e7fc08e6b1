# SPDX-License-Identifier: AGPL-3.0-or-later
"""Labels of a scene in the formats that Ultralytics reads: lines of text, or a map with a value for every pixel."""

from __future__ import annotations

import cv2
import numpy as np

from ultralytics.data.shapes.outline import Shape
from ultralytics.data.shapes.scene import Scene
from ultralytics.data.shapes.texture import SIZE

DEPTH_SCALE = 1000  # depth maps count millimetres: Ultralytics' `depth_scale`
COVERED, SEEN = 1, 2  # visibility of a keypoint, as in COCO


def label_line(cls: int, values: np.ndarray) -> str:
    """Return one line of a label file."""
    return " ".join([str(cls), *(f"{value:.6f}" for value in np.ravel(values))])


def relative(points: np.ndarray) -> np.ndarray:
    """Return points (x, y) in pixels relative to the picture; a pixel's own point is its middle."""
    return (points + 0.5) / SIZE


def visible_box(shape: Shape) -> np.ndarray:
    """Return centre and size (x, y, width, height), relative to the picture, of the part that can be seen."""
    rows, columns = np.flatnonzero(shape.visible.any(1)), np.flatnonzero(shape.visible.any(0))
    (left, right), (top, bottom) = (columns[0], columns[-1] + 1), (rows[0], rows[-1] + 1)
    return np.array([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]) / (2 * SIZE)


def join(path: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return a path that leaves a closed path at its point nearest to a ring, goes around that and comes back."""
    leave, enter = np.unravel_index(
        np.hypot(*(path[:, None] - ring).transpose(2, 0, 1)).argmin(), (len(path), len(ring))
    )
    around = np.roll(ring, -enter, axis=0)
    return np.concatenate([path[: leave + 1], around, around[:1], path[leave:]])


def visible_polygon(shape: Shape) -> np.ndarray:
    """Return the outline (x, y) of the part that can be seen; bridges join its pieces and holes to one polygon."""
    rings, _ = cv2.findContours(shape.visible.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    path, *others = sorted((ring[:, 0] for ring in rings), key=len, reverse=True)
    for ring in others:
        path = join(path, ring)
    return path


def keypoints(shape: Shape) -> np.ndarray:
    """Return rows of x, y (relative to the picture) and visibility: centre, tip, tail, left and right side."""
    points = np.stack([shape.centre, *(shape.edge_point(angle) for angle in np.pi * np.array([0, 1, 1.5, 0.5]))])
    columns, rows = np.round(points).astype(int).T
    return np.column_stack([relative(points), np.where(shape.visible[rows, columns], SEEN, COVERED)])


def detect_lines(scene: Scene) -> list[str]:
    """Return class and box of every shape."""
    return [label_line(shape.cls, visible_box(shape)) for shape in scene.shapes]


def segment_lines(scene: Scene) -> list[str]:
    """Return class and polygon of every shape."""
    return [label_line(shape.cls, relative(visible_polygon(shape))) for shape in scene.shapes]


def pose_lines(scene: Scene) -> list[str]:
    """Return class, box and keypoints of every shape."""
    return [
        label_line(shape.cls, np.concatenate([visible_box(shape), keypoints(shape).ravel()])) for shape in scene.shapes
    ]


def obb_lines(scene: Scene) -> list[str]:
    """Return class and the four corners of the rotated box of every shape."""
    return [label_line(shape.cls, relative(shape.rotated_box())) for shape in scene.shapes]


def semantic_map(scene: Scene) -> np.ndarray:
    """Return the class of every pixel, 8 bits each; the background's comes first and the shapes' after it."""
    classes = np.zeros((SIZE, SIZE), np.uint8)
    for shape in scene.shapes:
        classes[shape.visible] = 1 + shape.cls
    return classes


def depth_map(scene: Scene) -> np.ndarray:
    """Return the distance of every pixel in millimetres, 16 bits each."""
    assert scene.depth is not None  # it is None only in pictures that are not deep
    return np.round(scene.depth * DEPTH_SCALE).astype(np.uint16)
