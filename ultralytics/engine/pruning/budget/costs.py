# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a budget can count: FLOPs, parameters, bytes of weights, or latency in a runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Union

import torch
from torch import nn
from torch.onnx.errors import OnnxExporterError

from ultralytics.engine.pruning.budget.counted import TOLERANCE, FlopsCost, ParametersCost, SizeCost
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import fit_image_size
from ultralytics.engine.pruning.latency.bundle import KITS
from ultralytics.engine.pruning.latency.elsewhere import Elsewhere
from ultralytics.engine.pruning.latency.formula import LatencyFormula, convolutions_time, fit_whole
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES, distribution, runtime_at
from ultralytics.engine.pruning.latency.shapes import conv_shapes
from ultralytics.engine.pruning.latency.table import LatencyTable
from ultralytics.engine.pruning.latency.turns import INTERRUPTED, Timing, latency_ratio
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock
from ultralytics.utils import LOGGER

NOISE = 0.05  # share by which times of the same model differ on a machine that has nothing else to do
ATTEMPTS = 3  # to measure when it has
BUSY = " Times vary when the machine has other work to do."
BESIDE = f" {INTERRUPTED}. Run again when the machine is idle."
OVERLAP = " This is noise: the latencies of the dense and the pruned model overlap. Run again when the machine is idle."


class LatencyCost:
    """Milliseconds of one image, predicted from a table of convolutions and verified on the whole network.

    Attributes:
        runtime (Runtime): Where it is measured.
        unit (str): What the cost is, for messages.
        symbol (str): The unit of an absolute target.
        tolerance (float): How far a cut may miss the target and be corrected, as a share of it.
        baseline_was_wrong (bool): The dense latency behind the last prediction was measured on a busy machine, as a
            later measurement has shown; ignore that prediction's error.
        whole (float): Milliseconds of the dense model, the 10th percentile.
        spread (float): The 90th percentile over it.
        doubt (str): What may be wrong with the last measurement, for messages.
        calibrated (bool): A pruned model was measured, and predictions go by it.
        noise (bool): The last measurement leaves it open whether the pruned model is faster.
    """

    symbol = "ms"
    tolerance: float | None = TOLERANCE
    baseline_was_wrong = False
    doubt = ""
    calibrated = False
    noise = False

    def __init__(self, dense: nn.Module, imgsz: int, runtime: str, runner: str = "", precision: str = "fp32"):
        """Measure the convolutions of a model, as far as the table lacks them, and the model as a whole.

        Args:
            dense (nn.Module): Stock model before pruning.
            imgsz (int): Image size in pixels.
            runtime (str): A key of `ultralytics.engine.pruning.latency.runtimes.RUNTIMES`.
            runner (str): Command in front of a shell's on the device that is measured; '' for this machine.
            precision (str): One of the runtime's precisions.

        Raises:
            ModuleNotFoundError: If a package is not installed.
            RunnerError: If the device cannot be reached, or measuring fails there.
            ValueError: If the model cannot be exported to ONNX.
            ValueError: If the model cannot be exported for that runtime.
        """
        check_installed(runtime, runner, precision)
        self.runtime = runtime_at(runtime, runner, precision)
        how = f" in {precision.upper()}" * (precision != "fp32") + f" at {runner}" * bool(runner)
        self.unit = f"milliseconds in {self.runtime.label}{how}"
        self.dense, self.imgsz = dense, fit_image_size(dense, imgsz)
        self.device = next(dense.parameters()).device
        self.table = open_table(runtime, self.device, runner, precision)
        self.shapes = conv_shapes(to_stock(prunable_copy(dense)), self.imgsz)
        self.table.measure(shape for shapes in self.shapes.values() for shape in shapes)
        self._convolutions = sum(self.table.times[shape.key] for shapes in self.shapes.values() for shape in shapes)
        self._pruned: tuple[float, float] | None = None
        try:
            timing = self.runtime.time_models({"dense": dense}, self.imgsz, self.device)["dense"]
        except OnnxExporterError as error:
            raise ValueError(
                f"'budget={runtime}' is invalid with this model, which cannot be exported: {error} Choose "
                "budget=flops or budget=pytorch."
            ) from error
        self.whole, self.spread = timing.low, timing.high / timing.low
        LOGGER.info(f"Dense model: {self.whole:.2f} {self.unit}, {self._convolutions:.2f} in convolutions by the table")
        if self.rest > self.whole / 2:
            LOGGER.warning(
                f"{self.rest:.2f} of {self.whole:.2f} {self.unit} are spent outside the convolutions, where pruning "
                "may save little. If the machine had other work to do meanwhile, run again when it has none."
            )

    def explain(self, error: OutOfReachError) -> str:
        """Return why a target seems out of reach: noise, if the dense model's latency varied while it was measured."""
        if self.spread > 1 + NOISE:
            return (
                f"no cut could be planned for noise: the dense model's latency varied by a factor of {self.spread:.2f} "
                f"while it was measured ({self.unit}, 10th to 90th percentile). Run again when the machine is idle."
            )
        return (
            f"{error} By measured times, {self.rest:.2f} of {self.whole:.2f} {self.unit} are spent outside the "
            f"convolutions, where pruning may save little{self._measured()}."
        )

    def _measured(self) -> str:
        """Return what pruning has left when it was last measured, for messages."""
        return f": the last cut left {self._pruned[1]:.2f}" if self._pruned else ""

    @property
    def rest(self) -> float:
        """Return the milliseconds of the dense model outside its convolutions."""
        return max(self.whole - self._convolutions, 0.0)

    @property
    def dense_amount(self) -> float:
        """Return the milliseconds of the dense model."""
        return self.whole

    def formula(self, graph: Graph) -> LatencyFormula:
        """Return the cost of a network as a function of the units that its groups keep."""
        whole = fit_whole((self._convolutions, self.whole), self._pruned)
        return LatencyFormula(graph, self.shapes, self.table, whole=whole)

    def speed_up(self, pruned: nn.Module) -> float:
        """Return the cost of the dense model over that of a pruned stock model, measured side by side.

        The 10th percentiles count, which other work of the machine disturbs less than the medians. How long the dense
        model takes shows whether it was disturbed: now, and they are measured again, or when it was timed first.
        """
        attempts: list[dict[str, Timing]] = []
        while len(attempts) < ATTEMPTS:
            attempts.append(self.runtime.time_models({"dense": self.dense, "pruned": pruned}, self.imgsz, self.device))
            if attempts[-1]["dense"].low <= self.whole * (1 + NOISE):
                break
            LOGGER.info(f"Dense model: {attempts[-1]['dense'].low:.2f} instead of {self.whole:.2f} {self.unit}")
        times = min(attempts, key=lambda attempt: attempt["dense"].low)
        self._learn(times["dense"])
        self.noise = latency_ratio(times["dense"], times["pruned"]) is None
        interrupted = any(timing.interrupted for timing in times.values())
        self.doubt = BESIDE if interrupted else OVERLAP if self.noise else BUSY
        ratio = times["dense"].low / times["pruned"].low
        left = convolutions_time(self.shapes, conv_shapes(pruned, self.imgsz), self.table)
        self._pruned, self.calibrated = (left, self.whole / ratio), ratio > 1.0
        return ratio

    def recheck(self) -> bool:
        """Time the dense model again; return True if it was disturbed at first, so that predictions change."""
        self._learn(self.runtime.time_models({"dense": self.dense}, self.imgsz, self.device)["dense"])
        return self.baseline_was_wrong

    def _learn(self, timing: Timing) -> None:
        """Take note of how long the dense model took this time."""
        self.baseline_was_wrong = timing.low < self.whole * (1 - NOISE)
        if timing.low <= self.whole:
            self.whole, self.spread = timing.low, timing.high / timing.low


Cost = Union[FlopsCost, LatencyCost]  # a value, which Python 3.9 cannot write with |


def open_table(runtime: str, device: torch.device, runner: str = "", precision: str = "fp32") -> LatencyTable:
    """Open the latency table of a runtime on this machine or another device.

    Args:
        runtime (str): A key of `RUNTIMES`.
        device (torch.device): Device of the run.
        runner (str): Command in front of a shell's on the device that is measured; '' for this machine.
        precision (str): One of the runtime's precisions.

    Raises:
        ValueError: If the table is damaged.
        RunnerError: If the device cannot be reached, or lacks what measuring needs.
    """
    if not runner and precision == "fp32":
        return LatencyTable(runtime, device)
    place = Elsewhere(runtime, runner, precision).place()
    return LatencyTable(runtime, device, row=runtime_at(runtime, runner, precision), place=place)


def check_runs(model: nn.Module, budget: str) -> None:
    """Check that a model can run where a budget is measured.

    Args:
        model (nn.Module): Stock model.
        budget (str): A budget.

    Raises:
        ValueError: If it cannot.
    """
    if budget in RUNTIMES and (refusal := RUNTIMES[budget].refusal(model)):
        raise ValueError(f"'budget={budget}' is invalid with this model: {refusal}. Choose another budget.")


def check_installed(budget: str, runner: str = "", precision: str = "fp32") -> None:
    """Check that everything is installed that a budget is measured with.

    Args:
        budget (str): A key of `COSTS`.
        runner (str): Command that reaches the device; what it has need not be installed here.
        precision (str): One of the runtime's precisions.

    Raises:
        ModuleNotFoundError: If a package is not.
    """
    missing: list[str] = []
    if budget in RUNTIMES:
        here = [] if runner else RUNTIMES[budget].missing()
        sent = KITS[budget].missing(precision) if budget in KITS else []
        missing = [*dict.fromkeys((*here, *sent))]
    if missing:
        raise ModuleNotFoundError(
            f"'budget={budget}' needs {' and '.join(missing)}: pip install {' '.join(map(distribution, missing))}, or "
            "choose budget=flops."
        )


COUNTED: dict[str, Callable[..., Cost]] = {"flops": FlopsCost, "params": ParametersCost, "size": SizeCost}
COSTS: dict[str, Callable[..., Cost]] = {
    "flops": FlopsCost,
    **{runtime: partial(LatencyCost, runtime=runtime) for runtime in RUNTIMES},
    **COUNTED,
}
