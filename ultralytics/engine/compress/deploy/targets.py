# SPDX-License-Identifier: AGPL-3.0-or-later
"""The targets of a deploy stage: formats, their precision and arguments, as 'deploy' names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ultralytics.cfg import QUANTIZE_ALIASES, smart_value
from ultralytics.engine.compress.deploy.formats import known_formats, missing_packages, needs_gpu
from ultralytics.engine.exporter import FP16_FORMATS, FP32_UNSUPPORTED_FORMATS, QUANTIZE_PRECISIONS

INT8 = 8  # value of Ultralytics' 'quantize'
OF_THE_STAGE = ("batch", "data", "fraction", "quantize")  # arguments of an export that the stage itself gives
PRECISIONS: dict[str, int | str] = {"fp16": 16, "int8": INT8, "w8a16": "w8a16", "w8a32": "w8a32"}
ALWAYS_QUANTISED = FP32_UNSUPPORTED_FORMATS - FP16_FORMATS  # formats that have no file in floating point
NEVER = {("torchscript", "fp16")}  # which Ultralytics exports on a GPU alone, and this stage runs on the CPU
EXAMPLES = "i.e. 'deploy=onnx', 'deploy=[onnx,openvino-int8]' or 'deploy=onnx:opset=17:nms=True'"


@dataclass(frozen=True)
class Target:
    """What a model is exported to.

    Attributes:
        format (str): Ultralytics' name of the format.
        quantize (int | str | None): Ultralytics' name of the precision; None for the one of the weights.
        arguments (dict[str, Any]): Other arguments of the export.
    """

    format: str
    quantize: int | str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return a name for tables and folders, i.e. 'openvino-int8'."""
        precision = next((f"-{name}" for name, value in PRECISIONS.items() if value == self.quantize), "")
        return "".join([self.format, precision, *(f"-{key}={value}" for key, value in self.arguments.items())])

    @property
    def is_int8(self) -> bool:
        """Return True if weights and activations are quantised after training, from pictures."""
        return self.quantize in {INT8, "w8a16"}

    def in_float(self) -> Target:
        """Return the same target in floating point, if there is such a file."""
        if self.format in ALWAYS_QUANTISED:
            return self
        return Target(self.format, None, self.arguments)


def read_targets(deploy: str | Sequence[str] | None) -> list[Target]:
    """Read the value of 'deploy'.

    Args:
        deploy (str | Sequence[str], optional): Formats, each of which may have a precision and arguments.

    Returns:
        (list[Target]): Targets in their order, each once.

    Raises:
        ValueError: If a format, a precision or an argument is none of Ultralytics' export.
    """
    if deploy is None:
        return []
    words = deploy.strip("[]() ").split(",") if isinstance(deploy, str) else list(deploy)
    if not words:
        raise ValueError(f"'deploy={deploy}' is an invalid value. 'deploy' must name a format or several, {EXAMPLES}.")
    targets: dict[str, Target] = {}
    for word in words:
        target = _read_target(str(word).strip(" '\""), deploy)
        targets.setdefault(target.name, target)
    return list(targets.values())


def with_float(targets: Sequence[Target]) -> list[Target]:
    """Return targets with the floating-point one before each that is quantised: what INT8 gains is judged by it."""
    names = {target.name: target for t in targets for target in (t.in_float() if t.quantize else t, t)}
    return list(names.values())


def check_targets(deploy: str | Sequence[str] | None, device: torch.device) -> list[Target]:
    """Read 'deploy' and check that its files can be made and run on this machine.

    Args:
        deploy (str | Sequence[str], optional): Value of 'deploy'.
        device (torch.device): Device of the run.

    Returns:
        (list[Target]): Targets.

    Raises:
        ValueError: If the value is not valid, or a format needs a GPU that the run does not use.
        ModuleNotFoundError: If a format needs a package that is not installed.
    """
    targets = read_targets(deploy)
    missing = {target.name: missing_packages(target.format, target.is_int8) for target in targets}
    if packages := list(dict.fromkeys(name for names in missing.values() for name in names)):
        needy = ",".join(target for target, names in missing.items() if names)
        command = " ".join(f"'{name}'" for name in packages)
        raise ModuleNotFoundError(
            f"'deploy={needy}' needs {', '.join(packages)}, which is not installed. Install with: pip install {command}"
        )
    for target in targets:
        if needs_gpu(target.format) and device.type != "cuda":
            raise ValueError(
                f"'deploy={target.name}' is an invalid value with 'device={device}': files of format={target.format} "
                "run on a GPU alone. Pass the GPU as device, or leave the format out."
            )
    return targets


def _read_target(word: str, deploy: Any) -> Target:
    """Read one format with its precision and arguments."""
    head, *pairs = word.split(":")
    name, _, precision = head.lower().partition("-")
    formats = known_formats()
    if name not in formats:
        raise ValueError(
            f"'deploy={deploy}' is an invalid value: '{name}' is no format. Valid formats are {', '.join(formats)}, "
            f"{EXAMPLES}."
        )
    valid = _precisions(name)
    quantize = QUANTIZE_ALIASES.get(precision) if precision else None
    if not precision and name in ALWAYS_QUANTISED:
        *_, quantize = valid.values()
    if precision and quantize not in valid.values():
        raise ValueError(
            f"'deploy={deploy}' is an invalid value: format={name} has no precision '{precision}'. Valid precisions of "
            f"it are {', '.join(valid) or 'none but that of the weights'}."
        )
    arguments = {}
    takes = [key for key in formats[name].arguments if key not in OF_THE_STAGE]
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in takes or not value:
            raise ValueError(
                f"'deploy={deploy}' is an invalid value: '{pair}' is no argument of format={name}. Valid arguments of "
                f"it are {', '.join(takes) or 'none'}, {EXAMPLES}."
            )
        arguments[key] = smart_value(value)
    return Target(name, quantize, arguments)


def _precisions(name: str) -> dict[str, int | str]:
    """Return the precisions of a format besides that of the weights, by the name that 'deploy' takes."""
    has = [formats for _, formats in QUANTIZE_PRECISIONS]  # in the order of `PRECISIONS`
    pairs = zip(PRECISIONS.items(), has)
    return {key: value for (key, value), formats in pairs if name in formats and (name, key) not in NEVER}
