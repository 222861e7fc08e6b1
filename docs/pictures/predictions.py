# SPDX-License-Identifier: AGPL-3.0-or-later
"""Put the predictions of a dense and a pruned model side by side, on the first validation pictures of their data set.

    python docs/pictures/predictions.py best.pt runs/detect/compress-finetune/weights/best.pt DATASETS/shapes/images/val

`widths.py` says of which run the picture in the docs is.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from ultralytics import YOLO
from ultralytics.engine.results import Results

COUNT, SIZE, EDGE, QUALITY = 4, 220, 5, 80


def enlarge(result: Results) -> Results:
    """Return a result on its picture in the size that is shown."""
    image = cv2.resize(result.orig_img, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    scale = SIZE / torch.tensor(result.orig_shape)[[1, 0, 1, 0]]
    boxes = torch.cat([result.boxes.xyxy * scale, result.boxes.data[:, 4:]], 1)
    return Results(image, result.path, result.names, boxes=boxes)


def draw(models: list[str], folder: Path, file: Path, imgsz: int) -> None:
    """Draw a row of pictures for each model."""
    pictures = sorted(folder.iterdir())[:COUNT]
    rows = []
    for model in models:
        results = YOLO(model).predict([str(picture) for picture in pictures], imgsz=imgsz, conf=0.4, verbose=False)
        drawn = [enlarge(result).plot(line_width=2, font_size=11) for result in results]
        rows.append(np.hstack([np.pad(d, ((EDGE, EDGE), (EDGE, EDGE), (0, 0)), constant_values=255) for d in drawn]))
    cv2.imwrite(str(file), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", help="checkpoint before the cut")
    parser.add_argument("pruned", help="checkpoint after the fine-tuning")
    parser.add_argument("pictures", type=Path, help="folder of validation pictures")
    parser.add_argument("--imgsz", type=int, default=128, help="image size in pixels")
    arguments = parser.parse_args()
    draw([arguments.dense, arguments.pruned], arguments.pictures, Path(__file__).with_suffix(".jpg"), arguments.imgsz)
