# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runtimes that are measured in a process without PyTorch, on this machine or on the device that a runner reaches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from ultralytics.engine.pruning.latency.board.device import device_slug
from ultralytics.engine.pruning.latency.bundle import KITS, write_bundle
from ultralytics.engine.pruning.latency.runner import ask_device, run_bundle
from ultralytics.engine.pruning.latency.shapes import ConvShape
from ultralytics.engine.pruning.latency.turns import Timing


@dataclass(frozen=True)
class Elsewhere:
    """A runtime in a process of its own.

    Attributes:
        runtime (str): A key of `ultralytics.engine.pruning.latency.bundle.KITS`.
        runner (str): Command in front of a shell's on the device, i.e. 'ssh pi@board'; '' for this machine.
        precision (str): 'fp32', 'fp16' or 'int8'.
    """

    runtime: str
    runner: str = ""
    precision: str = "fp32"

    def time_models(self, models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, Timing]:
        """Time models in turns, batch 1; see `Runtime`.

        Args:
            models (dict[str, nn.Module]): Name to model, unfused.
            imgsz (int): Image size in pixels.
            device (torch.device): Unused: the runtime runs on the CPU.

        Raises:
            RunnerError: If the device cannot be reached, or measuring fails there.
        """
        with tempfile.TemporaryDirectory() as folder:
            return run_bundle(self._bundle(Path(folder), models, [], imgsz), self.runner).networks

    def time_convolutions(self, shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
        """Time convolutions, batch 1; see `Runtime`.

        Args:
            shapes (Sequence[ConvShape]): Convolutions with their activations.
            device (torch.device): Unused: the runtime runs on the CPU.

        Raises:
            RunnerError: If the device cannot be reached, or measuring fails there.
        """
        alike: dict[tuple, list[ConvShape]] = {}
        for shape in shapes:
            alike.setdefault(shape.resized(0, 0), []).append(shape)
        with tempfile.TemporaryDirectory() as folder:
            times = run_bundle(self._bundle(Path(folder), {}, [*alike.values()], 0), self.runner).times
        return [times[shape.key] for shape in shapes]

    def version(self, device: torch.device) -> str:
        """Return name and version of the runtime as it is installed here, and the precision; see `Runtime`."""
        name = KITS[self.runtime].install
        try:
            return f"{name}-{version(name)}-{self.precision}"
        except PackageNotFoundError:  # a build under another name
            return f"{name}-{self.precision}"

    def place(self) -> str:
        """Return a name for what times depend on besides the convolution, by what the device says of itself.

        Raises:
            RunnerError: If the device cannot be reached or lacks what measuring needs.
        """
        with tempfile.TemporaryDirectory() as folder:
            said = ask_device(self._bundle(Path(folder), {}, [], 0), self.runner)
        return f"{said['version']}-{said['precision']}-{device_slug(said['device'])}-{said['threads']}threads"

    def _bundle(
        self, folder: Path, models: dict[str, nn.Module], shapes: Sequence[Sequence[ConvShape]], imgsz: int
    ) -> Path:
        threads = 0 if self.runner else torch.get_num_threads()  # of another device: all that it has
        return write_bundle(folder, self.runtime, models, shapes, imgsz, precision=self.precision, threads=threads)
