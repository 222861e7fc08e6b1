# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draw accuracy against milliseconds from the table of the benchmarks: `python docs/pictures/accuracy_latency.py`."""

import re
from pathlib import Path

from ultralytics.engine.pruning.report.style import ALARM, BASELINE, LEGEND, PRUNED, picture

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Accuracy against measured time"
KINDS = {  # what a row's name begins with: legend, colour, marker
    "ours, .* FLOPs": ("this package, a target in FLOPs", PRUNED, "o"),
    "ours, .* time": ("this package, a target in milliseconds", "#0f9d58", "D"),
    "loop": ("torch-pruning's loop (LAMP)", ALARM, "s"),
}
COLUMNS = ("mAP50-95", "ONNX Runtime (ms)")


def read_points() -> dict[str, tuple[float, float]]:
    """Return milliseconds and accuracy of every model of the table."""
    section = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    heading, _, *rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    accuracy, time = (next(i for i, cell in enumerate(heading) if cell.strip() == name) for name in COLUMNS)
    return {row[0].strip(): (float(row[time].split()[0]), float(row[accuracy])) for row in rows}


def draw(file: Path) -> None:
    """Draw the picture."""
    points = read_points()
    with picture(file, figsize=(7.2, 4.2)) as (_, axis):
        dense = points.pop("dense")
        axis.axhline(dense[1], color=BASELINE, linewidth=0.8, linestyle=":")
        axis.plot(*dense, "*", color=BASELINE, markersize=15, label="dense", linestyle="none")
        axis.annotate(f"{dense[0]} ms", dense, textcoords="offset points", xytext=(-14, 10))
        for pattern, (label, colour, marker) in KINDS.items():
            found = {name: point for name, point in points.items() if re.match(pattern, name)}
            axis.plot(*zip(*sorted(found.values())), marker, color=colour, label=label, linestyle="-", linewidth=1)
            for name, point in found.items():
                short = re.sub(r"^\w+, | FLOPs", "", name)
                below = (0, -15) if colour == PRUNED else (0, 8)
                axis.annotate(short, point, textcoords="offset points", xytext=below, ha="center", fontsize=8)
        axis.set(xlabel="ms per image, ONNX Runtime, one CPU thread", ylabel="mAP50-95 (mean of 3 seeds)")
        axis.set(xlim=(7, 23.5), ylim=(0.12, 0.187))
        axis.legend(**LEGEND, loc="lower right")


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
