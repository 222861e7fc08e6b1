# SPDX-License-Identifier: AGPL-3.0-or-later
"""Milliseconds on a device that is not here, by the file that it has given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from ultralytics.engine.pruning.budget.counted import FlopsCost
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import fit_image_size
from ultralytics.engine.pruning.latency.answer import Answer, read_answer
from ultralytics.engine.pruning.latency.bundle import HALVES, write_bundle
from ultralytics.engine.pruning.latency.formula import LatencyFormula, convolutions_time, fit_whole, time_of_weights
from ultralytics.engine.pruning.latency.shapes import ConvShape, conv_shapes, with_widths
from ultralytics.engine.pruning.latency.table import Times, variants
from ultralytics.engine.pruning.latency.turns import latency_ratio
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock
from ultralytics.utils import LOGGER

NAMED = 5  # shapes that a message names


class AnswerCost(FlopsCost):
    """Milliseconds as a device's answer predicts them, which only the device can verify.

    The answer has every convolution at all its widths and the dense network as a whole; that of a later trip has a
    pruned network as well, which corrects the prediction.

    Attributes:
        answer (Answer): What the device has measured.
        shapes (dict[str, list[ConvShape]]): Stock layer name to its shapes before pruning.
        table (Times): Milliseconds of convolutions, with what their weights cost in a network.
        spreads (dict[str, list[float]]): The same of the fastest and the median run, by the key of a `ConvShape`.
        whole (float): Milliseconds of the dense model.
        step (int): Output channels of which the device likes multiples.
    """

    symbol = "ms"

    def __init__(self, dense: nn.Module, imgsz: int, file: str):
        """Read an answer.

        Args:
            dense (nn.Module): Stock model before pruning.
            imgsz (int): Image size in pixels.
            file (str): answer.json.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or of another model or image size.
        """
        super().__init__(dense, imgsz)
        self.answer = read_answer(file)
        check_image_size(self.answer, fit_image_size(dense, imgsz))
        self.shapes = conv_shapes(to_stock(prunable_copy(dense)), self.answer.imgsz)
        self.table = Times(self.answer.times)
        check_shapes(self.answer, self.table, self.shapes)
        if "dense" not in self.answer.networks:
            raise ValueError(
                f"'budget={file}' lacks the dense network. Make a bundle with 'yolo latency' and measure it."
            )
        if noisy := self.answer.noisy:
            LOGGER.warning(
                f"'budget={file}': the times of {', '.join(noisy)} could not be told from noise on the device, and "
                "were written anyway. Measure again without --anyway when nothing else runs there."
            )
        self.unit = f"milliseconds of {self.answer.place}"
        self.whole = self.answer.networks["dense"].low
        self._halves = self._read_halves()
        self.table, self.spreads = self._with_weights()
        self.step = self.table.step(shape for calls in self.shapes.values() for shape in calls)
        self._convolutions = convolutions_time(self.shapes, self.shapes, self.table)
        self._whole_time = fit_whole((self._convolutions, self.whole), self._pruned())
        LOGGER.info(f"Dense model: {self.whole:.2f} {self.unit}, {self._convolutions:.2f} in convolutions by the table")
        if self.step > 1:
            LOGGER.info(
                f"The device likes multiples of {self.step} channels; as far as the target allows, they are kept."
            )
        if pruned := self.answer.networks.get("pruned"):
            ratio = latency_ratio(self.answer.networks["dense"], pruned)
            gain = f"{ratio:.2f} times faster" if ratio else "which is within the noise"
            LOGGER.info(f"Network of the cut before: {pruned.low:.2f} {self.symbol}, {gain}")

    @property
    def dense_amount(self) -> float:
        """Return the milliseconds of the dense model."""
        return self.whole

    def formula(self, graph: Graph) -> LatencyFormula:  # type: ignore[override]
        """Return the cost of a network as a function of the units that its groups keep."""
        return LatencyFormula(graph, self.shapes, self.table, whole=self._whole_time)

    def amount(self, model: nn.Module) -> float:
        """Return the milliseconds that are predicted for a stock model that was cut from the dense one."""
        left = conv_shapes(model, self.answer.imgsz)
        return float(self._whole_time(convolutions_time(self.shapes, left, self.table)))

    def speed_up(self, pruned: nn.Module) -> float:
        """Return the cost of the dense model over what is predicted of a pruned stock model."""
        return self.whole / self.amount(pruned)

    def explain(self, error: OutOfReachError) -> str:  # type: ignore[override]
        """Return why a target is out of reach."""
        return f"{error} Of {self.whole:.2f} {self.unit}, pruning leaves {self._whole_time.rest:.2f} at least."

    def next_bundle(self, folder: Path, pruned: nn.Module) -> Path:
        """Write the bundle of the next trip: the dense and the pruned network, and what the device has answered.

        Args:
            folder (Path): Where it goes.
            pruned (nn.Module): Stock model that was cut from the dense one.

        Returns:
            (Path): The folder.
        """
        left = conv_shapes(pruned, self.answer.imgsz)
        predicted = {
            "dense": self._convolutions,
            "pruned": convolutions_time(self.shapes, left, self.table),
        }
        return write_bundle(
            folder,
            self.answer.runtime,
            {"dense": self.dense, "pruned": pruned},
            [],
            self.answer.imgsz,
            precision=self.answer.precision,
            threads=self.answer.threads,
            measured=self.spreads,
            measured_as={
                **{key: getattr(self.answer, key) for key in ("version", "precision", "threads")},
                "device": self.answer.device.get("name"),
            },
            predicted=predicted,
        )

    def _pruned(self) -> tuple[float, float] | None:
        """Return the convolutions, by the table, and the whole of a pruned network that the device has measured.

        A first bundle has some of half the FLOPs: what does not shrink with the channels is known before there is a
        cut.
        """
        networks, predicted = self.answer.networks, self.answer.predicted
        if "pruned" in networks and "pruned" in predicted:
            return predicted["pruned"], networks["pruned"].low
        times = [
            (convolutions_time(self.shapes, left, self.table), networks[name].low)
            for name, left in self._halves.items()
        ]
        return tuple(np.mean(times, axis=0).tolist()) if times else None

    def _read_halves(self) -> dict[str, dict[str, list[ConvShape]]]:
        """Return the convolutions of the networks of half the FLOPs that the device has measured.

        Raises:
            ValueError: If they are of another model.
        """
        answer = self.answer
        try:
            found = {n: with_widths(self.shapes, answer.widths[n]) for n in HALVES if n in answer.networks}
            for left in found.values():
                convolutions_time(self.shapes, left, self.table)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"'budget={answer.source}' is damaged: its networks of half the FLOPs are not of this model. Make a "
                "bundle of this one with 'yolo latency' and measure it."
            ) from error
        return found

    def _with_weights(self) -> tuple[Times, dict[str, list[float]]]:
        """Return the table and its spreads with what weights cost in a network, as far as halves show it."""
        networks = {"dense": self.shapes, **self._halves}
        each = time_of_weights(
            [
                (
                    convolutions_time(self.shapes, left, self.table),
                    sum(shape.weights for calls in left.values() for shape in calls),
                    self.answer.networks[name].low,
                )
                for name, left in networks.items()
            ]
        )
        measured = {narrower for calls in self.shapes.values() for shape in calls for narrower in variants(shape)}
        added = {shape.key: each * shape.weights for shape in measured}
        spreads = {key: [ms + added.get(key, 0.0) for ms in pair] for key, pair in self.answer.spreads.items()}
        return Times({key: low for key, (low, _) in spreads.items()}), spreads


def check_image_size(answer: Answer, imgsz: int) -> None:
    """Refuse an answer that was measured at another image size.

    Args:
        answer (Answer): What a device has measured.
        imgsz (int): Image size of the run in pixels.

    Raises:
        ValueError: If the sizes differ.
    """
    if imgsz != answer.imgsz:
        raise ValueError(
            f"'imgsz={imgsz}' is not the {answer.imgsz} pixels at which 'budget={answer.source}' was measured. Pass "
            f"imgsz={answer.imgsz}, or measure a bundle of 'yolo latency imgsz={imgsz}'."
        )


def check_shapes(answer: Answer, table: Times, shapes: dict[str, list[ConvShape]]) -> None:
    """Refuse an answer that lacks convolutions of a model.

    Args:
        answer (Answer): What a device has measured.
        table (Times): Its convolutions.
        shapes (dict[str, list[ConvShape]]): Stock layer name to shapes.

    Raises:
        ValueError: If some are missing.
    """
    missing = table.missing(shape for calls in shapes.values() for shape in calls)
    if missing:
        names = ", ".join(shape.key for shape in [*missing][:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"'budget={answer.source}' was measured for another model: it lacks {names}{more}. Make a bundle of this "
            "one with 'yolo latency' and measure it."
        )
