# SPDX-License-Identifier: AGPL-3.0-or-later
"""A real data set that people know: BCCD, photographs of blood cells, in its authors' own split."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.utils import LOGGER

CLASSES = ("WBC", "RBC", "Platelets")
SPLITS = ("train", "val", "test")


def build_data(folder: Path, clone: Path) -> Path:
    """Convert the Pascal VOC boxes of BCCD to YOLO format.

    Args:
        folder (Path): Where the data set goes.
        clone (Path): A clone of the public repository Shenggan/BCCD_Dataset (MIT licence).

    Returns:
        (Path): The data set's YAML.

    Raises:
        FileNotFoundError: If that folder is no such clone.
    """
    source, root = clone / "BCCD", folder / "cells"
    if not (source / "ImageSets").is_dir():
        raise FileNotFoundError(f"'{clone}' has no 'BCCD/ImageSets': it is no clone of Shenggan/BCCD_Dataset")
    for split in SPLITS:
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        names = (source / "ImageSets/Main" / f"{split}.txt").read_text(encoding="utf-8").split()
        boxes = 0
        for name in names:
            shutil.copyfile(source / "JPEGImages" / f"{name}.jpg", root / "images" / split / f"{name}.jpg")
            rows = boxes_of(source / "Annotations" / f"{name}.xml")
            (root / "labels" / split / f"{name}.txt").write_text("".join(rows), encoding="utf-8")
            boxes += len(rows)
        LOGGER.info(f"blood cells, {split}: {len(names)} photographs, {boxes} boxes")
    data = root / "cells.yaml"
    images = {split: f"images/{split}" for split in SPLITS}
    YAML.save(data, {"path": str(root), **images, "names": dict(enumerate(CLASSES))})
    return data


def boxes_of(file: Path) -> list[str]:
    """Return the lines of a photograph's label file: class, and centre and size in shares of the image.

    Boxes without an area, of which the set has a few, and boxes given twice are left out.
    """
    root = ElementTree.parse(file).getroot()
    width, height = (float(root.find(f"size/{side}").text) for side in ("width", "height"))
    rows = {}
    for thing in root.iter("object"):
        x1, y1, x2, y2 = (float(thing.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax"))
        if x2 > x1 and y2 > y1:
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            rows[f"{CLASSES.index(thing.find('name').text)} {' '.join(f'{v:.6f}' for v in box)}\n"] = None
    return list(rows)
