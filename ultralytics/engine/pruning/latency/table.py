# SPDX-License-Identifier: AGPL-3.0-or-later
"""Milliseconds of convolutions by their widths, measured once on a machine and kept.

A latency lookup table in steps of channels is what HALP (Shen et al. 2022, arXiv 2110.10811) prunes by. The table here
is not over all pairs of widths: a convolution is measured at every width of its outputs with all inputs, and at every
width of its inputs with all outputs, and t(out, in) is taken as t(out, all) · t(all, in) / t(all, all).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from ultralytics.cfg.compress.compat.devices import get_gpu_info
from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.board.device import describe_device, device_slug
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES, Runtime
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.utils import LOGGER, TQDM, USER_CONFIG_DIR

STEP = 8  # channels between two widths that are measured
SCHEMA = 1  # of the file; 0 are those of version 0.1.0, which held the times alone
DELETE = "Delete it, and its convolutions are measured anew."
STEPS = (32, 16)  # channels that a device may like multiples of
NEARLY = 0.8  # of the time of another step is nearly as much
CLIMB = 0.02  # share by which a step must cost more than the one before to be told from noise
MOST_POINTS = 24  # widths of one layer and axis; wider layers are measured in multiples of STEP


class Times:
    """Times of convolutions by their widths.

    Attributes:
        times (dict[str, float]): Key of a `ConvShape` to milliseconds.
    """

    def __init__(self, times: dict[str, float]):
        """Take what was measured."""
        self.times = times

    def missing(self, shapes: Iterable[ConvShape]) -> dict[ConvShape, list[ConvShape]]:
        """Return the convolutions that are not measured at all their widths.

        Args:
            shapes (Iterable[ConvShape]): Convolutions of a dense model.

        Returns:
            (dict[ConvShape, list[ConvShape]]): Convolution to what is missing of it, itself or narrower ones.
        """
        found = {shape: [s for s in variants(shape) if s.key not in self.times] for shape in sorted(set(shapes))}
        return {shape: narrower for shape, narrower in found.items() if narrower}

    def curve(self, shape: ConvShape, axis: str) -> np.ndarray:
        """Return the milliseconds at every width of one axis, the other axis being whole.

        Args:
            shape (ConvShape): Convolution of a dense model.
            axis (str): 'out' or 'in'.

        Returns:
            (np.ndarray): Shape (width + 1,), by the number of channels; between measured widths a straight line, and
                the time of the smallest measured width below that.
        """
        whole = shape.outputs if axis == "out" else shape.inputs
        counts = _points(whole)
        times = [self.times[_narrowed(shape, axis, count).key] for count in counts]
        return np.interp(np.arange(whole + 1), counts, times)

    def shares(self, shape: ConvShape) -> np.ndarray:
        """Return the share of a convolution's time that is left by its number of inputs, shape (inputs + 1,)."""
        if shape.depthwise:
            return np.ones(1)
        curve = self.curve(shape, "in")
        return curve / curve[-1]

    def step(self, shapes: Iterable[ConvShape]) -> int:
        """Return the number of output channels of which the device likes multiples.

        Vectors and blocks of memory hold so many channels: a width between two multiples costs nearly as much as the
        upper one, and copies between layers besides, which no convolution by itself shows.

        Args:
            shapes (Iterable[ConvShape]): Convolutions of a dense model, measured at all their widths.

        Returns:
            (int): The largest of `STEPS` half of which costs nearly as much as all of it, in most convolutions; 1 if
                none does.
        """
        curves = [(_pitch(s.outputs), self.curve(s, "out")) for s in sorted(set(shapes)) if not s.depthwise]
        for step in STEPS:
            paid: list[float] = []
            for curve in (curve for pitch, curve in curves if step // 2 % pitch == 0):
                whole = np.arange(step, len(curve) - step, step)
                rise = curve[whole + step] - curve[whole]
                climbs = rise > CLIMB * curve[whole]
                paid += ((curve[whole + step // 2] - curve[whole])[climbs] / rise[climbs]).tolist()
            if paid and np.median(paid) > NEARLY:
                return step
        return 1

    def time(self, shape: ConvShape, left: ConvShape) -> float:
        """Return the milliseconds of what pruning has left of a convolution."""
        share = 1.0 if shape.depthwise else self.shares(shape)[left.inputs]
        return float(self.curve(shape, "out")[left.outputs] * share)


def variants(shape: ConvShape) -> list[ConvShape]:
    """Return the convolutions that must be measured to know one at all widths of either axis."""
    out = [_narrowed(shape, "out", count) for count in _points(shape.outputs)]
    inp = [] if shape.depthwise else [_narrowed(shape, "in", count) for count in _points(shape.inputs)]
    return list(dict.fromkeys([*out, *inp]))


class LatencyTable(Times):
    """Times of convolutions in one runtime on one device, in a file that later runs add to.

    Attributes:
        runtime (str): A key of `RUNTIMES`.
        device (torch.device): Device.
        file (Path): Where the times are kept.
        times (dict[str, float]): Key of a `ConvShape` to milliseconds.
    """

    def __init__(
        self,
        runtime: str,
        device: torch.device,
        folder: Path = USER_CONFIG_DIR / "latency",
        *,
        row: Runtime | None = None,
        place: str = "",
    ):
        """Read what earlier runs have measured.

        Args:
            runtime (str): A key of `RUNTIMES`.
            device (torch.device): Device.
            folder (Path): Where tables are kept.
            row (Runtime, optional): How it is measured, if not as on this machine.
            place (str): Name for runtime and device, by default those here.

        Raises:
            ValueError: If the file is damaged.
        """
        self.runtime, self.device, self.row = runtime, device, row
        self.file = folder / f"{slug(place) or _where(runtime, device)}.json"
        super().__init__(read_times(self.file) if self.file.exists() else {})

    def measure(self, shapes: Iterable[ConvShape]) -> None:
        """Measure convolutions at all their widths, unless that is done already.

        Args:
            shapes (Iterable[ConvShape]): Convolutions of a dense model.
        """
        missing = self.missing(shapes)
        if not missing:
            return
        row = self.row or RUNTIMES[self.runtime]
        batches = [[s for narrower in missing.values() for s in narrower]] if row.at_once else [*missing.values()]
        for narrower in TQDM(batches, desc=f"Latency of {len(missing)} convolutions in {row.label}"):
            measured = row.time_convolutions(narrower, self.device)
            self.times |= {shape.key: ms for shape, ms in zip(narrower, measured)}
            write_json(self.file, self._content(row), indent=1)
        LOGGER.info(f"Latency table saved to {self.file}")

    def _content(self, row: Runtime) -> dict:
        """Return what the file holds: the times, and where they were measured."""
        about = {
            "schema": SCHEMA,
            "runtime": self.runtime,
            "place": self.file.stem,
            "date": datetime.now().astimezone().isoformat(),
        }
        if not self.row:
            about |= {"version": row.version(self.device), "device": describe_device()}
        return {**about, "threads": torch.get_num_threads(), "convolutions": self.times}


def read_times(file: Path) -> dict[str, float]:
    """Read a latency table.

    Args:
        file (Path): What `LatencyTable.measure` has written.

    Returns:
        (dict[str, float]): Key of a `ConvShape` to milliseconds.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        times = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # JSON and UTF-8 that cannot be decoded are both the latter
        raise ValueError(f"the latency table '{file}' cannot be read: {error}. {DELETE}") from error
    if isinstance(times, dict) and "schema" in times:
        if times["schema"] != SCHEMA:
            raise ValueError(f"the latency table '{file}' has schema {times['schema']!r:.80}, not {SCHEMA}. {DELETE}")
        times = times.get("convolutions")
    if not isinstance(times, dict):
        raise ValueError(f"the latency table '{file}' is damaged: it holds a {type(times).__name__}. {DELETE}")
    for key, ms in times.items():
        if type(ms) not in {int, float} or not 0 < ms < math.inf:
            raise ValueError(f"the latency table '{file}' is damaged: {key!r:.80} takes {ms!r:.80} ms. {DELETE}")
    return times


def _points(whole: int) -> list[int]:
    """Return the widths at which an axis is measured."""
    pitch = _pitch(whole)
    return [*range(pitch, whole, pitch), whole]


def _pitch(whole: int) -> int:
    """Return the channels between two widths at which an axis is measured."""
    return STEP * -(-whole // (STEP * MOST_POINTS))


def _narrowed(shape: ConvShape, axis: str, count: int) -> ConvShape:
    """Return a convolution with fewer channels on one axis, a depthwise one with fewer on both."""
    if shape.depthwise:
        return shape.resized(count, count)
    return shape.resized(shape.inputs, count) if axis == "out" else shape.resized(count, shape.outputs)


def _where(runtime: str, device: torch.device) -> str:
    """Return a name for what times depend on besides the convolution."""
    device = torch.device("cpu") if RUNTIMES[runtime].on_cpu else device
    machine = f"{device_slug(describe_device())}-{torch.get_num_threads()}threads"
    if device.type != "cpu":
        machine = get_gpu_info(device.index or 0) if device.type == "cuda" else f"{device.type}-{machine}"
    return slug(f"{RUNTIMES[runtime].version(device)}-{machine}")


def slug(words: str) -> str:
    """Return words as the name of a file."""
    return re.sub(r"[^\w.+-]+", "_", words)
