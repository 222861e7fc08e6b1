# SPDX-License-Identifier: AGPL-3.0-or-later
"""Accuracy on real data: aerial tree crowns, dense YOLOv8n against LAMP 2.0x with fine-tuning, several seeds.

    python benchmarks/tree_crowns.py --out runs/tree_crowns

The control is the dense model trained for as many epochs more, with the same settings and seeds. Results are written
after each training, and a second run of the command goes on behind the trainings that are complete.
"""

from __future__ import annotations

import argparse
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from experiment import METRICS, Experiment, spread
from fetch import DEEPFOREST, fetch_railway, machine

from ultralytics.utils import LOGGER, YAML

SCENES = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2", "SOAP_061"),
    "val": ("2019_YELL_2_541000_4977000_image_crop", "OSBS_029"),
}
TILE, STRIDE = 320, 240  # pixels
VISIBLE = 0.4  # smallest share of a box's area inside a tile for the tile to keep it
GREY = 114  # what Ultralytics pads images with

Boxes = np.ndarray  # shape (N, 4): x1, y1, x2, y2 in pixels


def build_data(folder: Path) -> tuple[Path, dict[str, dict[str, int]]]:
    """Cut the aerial images into tiles, in YOLO format with the one class 'tree'.

    Args:
        folder (Path): Where the wheel and the data set go.

    Returns:
        data (Path): The data set's YAML.
        counts (dict[str, dict[str, int]]): Split to its number of 'tiles' and 'boxes'.
    """
    counts = {}
    root = folder / "trees"
    for split, scenes in SCENES.items():
        counts[split] = {"tiles": 0, "boxes": 0}
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            image, boxes = load_scene(folder, scene)
            for x, y in tile_corners(image):
                inside = visible_boxes(boxes, x, y)
                if len(inside):
                    save_tile(root, split, f"{scene}_{x}_{y}", image[y : y + TILE, x : x + TILE], inside)
                    counts[split]["tiles"] += 1
                    counts[split]["boxes"] += len(inside)
    data = root / "trees.yaml"
    YAML.save(data, {"path": str(root), "train": "images/train", "val": "images/val", "names": {0: "tree"}})
    return data, counts


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


def table(results: dict[str, Any], seeds: list[int]) -> str:
    """Return the results as a Markdown table: mean and range over the seeds."""
    runs = results["runs"]
    pruned = [runs[f"lamp-seed{seed}"] for seed in seeds]
    control = [runs[f"control-seed{seed}"] for seed in seeds if f"control-seed{seed}" in runs]
    rows = {
        "dense": [pruned[0]["dense"]],
        "dense, trained as long again": control,
        "LAMP 2.0x, before fine-tuning": [pruned[0]["pruned"]],
        "LAMP 2.0x, fine-tuned": [run["fine-tuned"] for run in pruned],
        **{f"... seed {seed}": [run["fine-tuned"]] for seed, run in zip(seeds, pruned)},
    }
    lines = [f"| model | seeds | {' | '.join(METRICS)} |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {len(measured)} | {' | '.join(spread([m[k] for m in measured]) for k in METRICS)} |"
        for name, measured in rows.items()
        if measured
    ]
    return "\n".join(lines)


def main() -> None:
    """Build the data set, train, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the fine-tuning")
    parser.add_argument("--control-seeds", type=int, nargs="*", help="seeds of the control, by default the same")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of every training")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data, counts = build_data(out)
    LOGGER.info(f"Tiles: {counts}")
    settings = {
        "data": str(data),
        "epochs": args.epochs,
        "imgsz": args.imgsz,
        "batch": 16,
        "optimizer": "AdamW",
        "lr0": 0.001,
        "cache": True,
        "plots": False,
        "device": args.device,
        "project": str(out / "runs"),
        "exist_ok": True,
    }
    experiment = Experiment(out, settings, {**machine(), "data": counts, "settings": settings})
    railway = fetch_railway(out)
    dense = experiment.once("dense", lambda: experiment.train("dense", railway, 0))["weights"]
    for seed in args.seeds:
        name = f"lamp-seed{seed}"
        experiment.once(name, lambda: experiment.prune_and_finetune(name, dense, seed, round_to=8))
    for seed in args.seeds if args.control_seeds is None else args.control_seeds:
        name = f"control-seed{seed}"
        experiment.once(name, lambda: experiment.train(name, dense, seed))
    markdown = table(experiment.results, args.seeds)
    (out / "results.md").write_text(f"{markdown}\n", encoding="utf-8")
    LOGGER.info(f"{json.dumps(experiment.results['about'])}\n\n{markdown}")


if __name__ == "__main__":
    main()
