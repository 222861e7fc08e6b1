# SPDX-License-Identifier: AGPL-3.0-or-later
"""A real data set for the experiments: tree crowns in the aerial photographs that the wheel `deepforest` has."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
from fetch import DEEPFOREST

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.utils import LOGGER

SCENES = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2", "SOAP_061"),
    "val": ("2019_YELL_2_541000_4977000_image_crop", "OSBS_029"),
}
TILE, STRIDE = 320, 240  # pixels
VISIBLE = 0.4  # smallest share of a box's area inside a tile for the tile to keep it
GREY = 114  # what Ultralytics pads images with

Boxes = np.ndarray  # shape (N, 4): x1, y1, x2, y2 in pixels


def build_data(folder: Path) -> Path:
    """Cut the aerial images into tiles, in YOLO format with the one class 'tree'.

    Args:
        folder (Path): Where the wheel and the data set go.

    Returns:
        (Path): The data set's YAML.
    """
    root = folder / "trees"
    for split, scenes in SCENES.items():
        tiles = boxes = 0
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            image, crowns = load_scene(folder, scene)
            for x, y in tile_corners(image):
                inside = visible_boxes(crowns, x, y)
                if len(inside):
                    save_tile(root, split, f"{scene}_{x}_{y}", image[y : y + TILE, x : x + TILE], inside)
                    tiles, boxes = tiles + 1, boxes + len(inside)
        LOGGER.info(f"tree crowns, {split}: {tiles} tiles, {boxes} boxes")
    data = root / "trees.yaml"
    YAML.save(data, {"path": str(root), "train": "images/train", "val": "images/val", "names": {0: "tree"}})
    return data


def load_scene(folder: Path, scene: str) -> tuple[np.ndarray, Boxes]:
    """Return an aerial image of the wheel and its Pascal VOC boxes, whatever their class."""
    png, xml = DEEPFOREST.fetch(folder, [f"deepforest/data/{scene}.{kind}" for kind in ("png", "xml")])
    boxes = ElementTree.parse(xml).getroot().iter("bndbox")
    corners = ("xmin", "ymin", "xmax", "ymax")
    return cv2.imread(str(png)), np.array([[float(box.find(k).text) for k in corners] for box in boxes])


def tile_corners(image: np.ndarray) -> list[tuple[int, int]]:
    """Return the top left corners of an image's tiles; those at an edge show more than STRIDE pixels of it."""
    height, width = (max(side - STRIDE, 1) for side in image.shape[:2])
    return [(x, y) for y in range(0, height, STRIDE) for x in range(0, width, STRIDE)]


def visible_boxes(boxes: Boxes, x: int, y: int) -> Boxes:
    """Return the boxes of which enough lies inside a tile, clipped to it and in its coordinates."""
    shifted = boxes - (x, y, x, y)
    clipped = shifted.clip(0, TILE)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (clipped, shifted)]
    return clipped[areas[0] >= VISIBLE * areas[1]]


def save_tile(root: Path, split: str, name: str, crop: np.ndarray, boxes: Boxes) -> None:
    """Write one tile, padded to its full size, and its labels."""
    tile = np.full((TILE, TILE, 3), GREY, np.uint8)
    tile[: crop.shape[0], : crop.shape[1]] = crop
    cv2.imwrite(str(root / "images" / split / f"{name}.png"), tile)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2 / TILE, (boxes[:, 2:] - boxes[:, :2]) / TILE
    rows = (f"0 {' '.join(f'{v:.6f}' for v in row)}\n" for row in np.hstack([centre, size]))
    (root / "labels" / split / f"{name}.txt").write_text("".join(rows), encoding="utf-8")
