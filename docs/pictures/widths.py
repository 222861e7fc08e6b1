# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draw the channels of every layer of a real cut, dense and pruned.

The picture in the docs is of a YOLOv8n trained on the shapes for 35 epochs, with the settings of `compress.py`, and
`yolo compress model=best.pt data=shapes.yaml imgsz=128 epochs=12 speed_up=3 distill=False` with the same settings:

    python docs/pictures/widths.py best.pt runs/detect/compress-finetune/weights/best.pt
"""

import argparse
from pathlib import Path

from ultralytics import YOLO
from ultralytics.engine.pruning.report.layers import compare_layers
from ultralytics.engine.pruning.report.style import DENSE, LEGEND, PRUNED, picture


def draw(dense: str, pruned: str, file: Path) -> None:
    """Draw a bar for each layer, the pruned one in front of the dense one, and the parts of the network below."""
    rows = compare_layers(YOLO(dense).model, YOLO(pruned).model)
    places = range(len(rows))
    with picture(file, figsize=(7.2, 3.2)) as (_, axis):
        for i, (label, colour) in enumerate((("dense", DENSE), ("pruned", PRUNED))):
            axis.bar(places, [row["channels"][i] for row in rows], width=0.9, color=colour, label=label)
        for part in ("backbone", "neck", "head"):
            own = [i for i in places if rows[i]["part"] == part]
            axis.annotate(
                part, ((own[0] + own[-1]) / 2, 0), xytext=(0, -8), textcoords="offset points", ha="center", va="top"
            )
            axis.axvline(own[0] - 0.5, color="#cccccc", linewidth=0.8)
        axis.set(ylabel="channels", xlim=(-0.5, len(rows) - 0.5), xticks=[])
        axis.legend(**LEGEND, loc="upper right")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", help="checkpoint before the cut")
    parser.add_argument("pruned", help="checkpoint after the fine-tuning")
    arguments = parser.parse_args()
    draw(arguments.dense, arguments.pruned, Path(__file__).with_suffix(".png"))
