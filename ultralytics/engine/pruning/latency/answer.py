# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a device has measured: the file that a bundle's measure.py writes, checked when it is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.shapes import Widths
from ultralytics.engine.pruning.latency.turns import Timing

SCHEMA = 1  # as `board/measure.py` has it
AGAIN = "Run the bundle's measure.py again on the device."
FIELDS: dict[str, type] = {
    "complete": bool,
    "runtime": str,
    "version": str,
    "precision": str,
    "threads": int,
    "imgsz": int,
    "device": dict,
    "networks": dict,
    "convolutions": dict,
    "predicted": dict,
}
PERCENTILES = ("median", "low", "high")


@dataclass(frozen=True)
class Answer:
    """Milliseconds of networks and convolutions on one device, and under which conditions.

    Attributes:
        runtime (str): A key of `ultralytics.engine.pruning.latency.runtimes.RUNTIMES`.
        version (str): Name and version of the runtime.
        precision (str): 'fp32', 'fp16' or 'int8'.
        threads (int): Threads of the runtime.
        imgsz (int): Image size in pixels.
        device (dict[str, Any]): See `ultralytics.engine.pruning.latency.board.device.describe_device`.
        networks (dict[str, Timing]): Name to milliseconds.
        times (dict[str, float]): Key of a `ConvShape` to milliseconds, the fastest run.
        spreads (dict[str, list[float]]): Key of a `ConvShape` to the milliseconds of the fastest and the median run.
        predicted (dict[str, float]): Name of a network to the milliseconds of its convolutions by an earlier answer.
        widths (dict[str, Widths]): Name of a network to the widths that pruning has left.
        noisy (tuple[str, ...]): Networks whose times cannot be told from noise, and 'convolutions'.
        source (str): File, for messages.
    """

    runtime: str
    version: str
    precision: str
    threads: int
    imgsz: int
    device: dict[str, Any]
    networks: dict[str, Timing]
    times: dict[str, float]
    spreads: dict[str, list[float]]
    predicted: dict[str, float]
    widths: dict[str, Widths]
    noisy: tuple[str, ...]
    source: str

    @property
    def place(self) -> str:
        """Return runtime and device for messages, i.e. 'ncnn-1.0 on Raspberry Pi 5, fp32, 4 threads'."""
        where = f"{self.version} on {self.device.get('name', 'an unknown device')}"
        return f"{where}, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"


def read_answer(file: str | Path) -> Answer:
    """Read what a device has measured.

    Args:
        file (str | Path): answer.json.

    Returns:
        (Answer): Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, incomplete or of another version.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(
            f"'budget={file}' does not exist. Give the answer.json that a bundle's measure.py wrote."
        )
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:  # JSON and UTF-8 that cannot be decoded
        raise ValueError(f"'budget={file}' cannot be read: {error}. {AGAIN}") from error
    return parse_answer(values, str(file))


def parse_answer(values: Any, source: str) -> Answer:
    """Check an answer.

    Args:
        values (Any): What answer.json holds.
        source (str): Its name, for messages.

    Raises:
        ValueError: If it is damaged, incomplete or of another version.
    """
    if not isinstance(values, dict) or type(values.get("schema")) is not int:
        raise ValueError(f"'budget={source}' is no answer of a device: it has no 'schema'. {AGAIN}")
    if values["schema"] > SCHEMA:
        raise ValueError(
            f"'budget={source}' has schema {values['schema']}, and {SCHEMA} is known. Update this package."
        )
    for name, kind in FIELDS.items():
        if not isinstance(values.get(name), kind) or (kind is int and isinstance(values[name], bool)):
            raise ValueError(f"'budget={source}' is damaged: '{name}' is {values.get(name)!r:.80}. {AGAIN}")
    kit = KITS.get(values["runtime"])
    if kit is None or values["precision"] not in kit.precisions:
        raise ValueError(
            f"'budget={source}' is of runtime={values['runtime']} in {values['precision']}, which this package does "
            "not know. Update this package."
        )
    if not values["complete"]:
        raise ValueError(f"'budget={source}' is incomplete: measuring was stopped. {AGAIN} It goes on where it was.")
    for key, times in values["convolutions"].items():
        if not (isinstance(times, list) and len(times) == 2 and all(map(_is_time, times))):
            raise ValueError(f"'budget={source}' is damaged: {key!r:.80} takes {times!r:.80} ms. {AGAIN}")
    for name, timing in values["networks"].items():
        if not (isinstance(timing, dict) and all(_is_time(timing.get(p)) for p in PERCENTILES)):
            raise ValueError(f"'budget={source}' is damaged: network {name!r:.80} takes {timing!r:.80} ms. {AGAIN}")
    for name, ms in values["predicted"].items():
        if not _is_time(ms):
            raise ValueError(f"'budget={source}' is damaged: {name!r:.80} is predicted to take {ms!r:.80} ms. {AGAIN}")
    widths = values.get("widths", {})  # which version 0.2.0 did not ask for
    if not (isinstance(widths, dict) and all(map(_are_widths, widths.values()))):
        raise ValueError(f"'budget={source}' is damaged: 'widths' is {widths!r:.80}. {AGAIN}")
    known = {
        name: values[name] for name in ("runtime", "version", "precision", "threads", "imgsz", "device", "predicted")
    }
    return Answer(
        **known,
        networks={
            name: Timing(t["median"], t["low"], t["high"], bool(t.get("interrupted")))  # which 0.2.0 does not say
            for name, t in values["networks"].items()
        },
        times={key: low for key, (low, _) in values["convolutions"].items()},
        spreads=values["convolutions"],
        widths=widths,
        noisy=tuple(map(str, values.get("noisy", ()))),
        source=source,
    )


def _is_time(ms: Any) -> bool:
    """Return True for milliseconds."""
    return type(ms) in {int, float} and 0 < ms < math.inf


def _are_widths(layers: Any) -> bool:
    """Return True for `Widths`."""
    if not (isinstance(layers, dict) and all(isinstance(calls, list) for calls in layers.values())):
        return False
    pairs = [pair for calls in layers.values() for pair in calls]
    return all(isinstance(p, list) and len(p) == 2 and all(type(n) is int and n > 0 for n in p) for p in pairs)
