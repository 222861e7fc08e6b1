# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draws the data set of a task: its pictures and labels, in the folders where Ultralytics looks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ultralytics.data.shapes.labels import depth_map, detect_lines, obb_lines, pose_lines, segment_lines, semantic_map
from ultralytics.data.shapes.look import Look
from ultralytics.data.shapes.scene import Scene, draw_scene
from ultralytics.utils import TQDM

SEED = 2026
SPLITS = {"train": 200, "val": 50}  # val comes last: Ultralytics draws the set again while val is missing
KINDS = ["circle", "triangle", "square", "star"]  # where the classes don't tell
NOT_SHAPES = {"background", "depth"}  # class names that no shape belongs to


@dataclass(frozen=True)
class Task:
    """What sets the data set of one task apart.

    Attributes:
        label (Callable | None): Turns a scene into lines of text or a map. None puts each class in a folder instead.
        folder (str): Folder of the labels, beside `images`.
        look (Look): What the pictures show.
    """

    label: Callable[[Scene], list[str] | np.ndarray] | None
    folder: str = "labels"
    look: Look = Look()


TASKS = {
    "detect": Task(detect_lines),
    "segment": Task(segment_lines),
    "pose": Task(pose_lines, look=Look(lean=np.pi / 4, dotted=True)),
    "obb": Task(obb_lines, look=Look(stretch=(1.5, 3.0))),
    "semantic": Task(semantic_map, "masks"),
    "depth": Task(depth_map, "depth", look=Look(deep=True)),
    "classify": Task(None, look=Look(radius=(32, 80), single=True)),
}


def save_label(stem: Path, label: list[str] | np.ndarray) -> None:
    """Save lines as a text file, a map as a PNG file.

    Args:
        stem (Path): Path without suffix.
        label (list[str] | np.ndarray): Label lines, or an integer for every pixel.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(label, np.ndarray):
        cv2.imwrite(f"{stem}.png", label)
    else:
        Path(f"{stem}.txt").write_text("\n".join(label) + "\n", encoding="utf-8")


def draw_dataset(data: dict[str, Any], task: str) -> None:
    """Draw the pictures and labels of a data set, the same every time (with one OpenCV and NumPy version).

    Args:
        data (dict[str, Any]): The data set's YAML as `check_det_dataset` hands it to a download script.
        task (str): A key of `TASKS`.
    """
    root, names = Path(data["path"]), list(data["names"].values())
    kinds, form = [name for name in names if name not in NOT_SHAPES] or KINDS, TASKS[task]
    for split_id, (split, count) in enumerate(SPLITS.items()):
        for i in TQDM(range(count), desc=f"Drawing {split} images"):
            scene = draw_scene(np.random.default_rng([SEED, split_id, i]), i, kinds, form.look)
            folder = root / "images" / split if form.label else root / split / names[scene.shapes[0].cls]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{i:03d}.png"), scene.picture)
            if form.label:
                save_label(root / form.folder / split / f"{i:03d}", form.label(scene))
