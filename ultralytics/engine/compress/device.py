# SPDX-License-Identifier: AGPL-3.0-or-later
"""The way of a run to the device that it is for and back: bundles to be measured there."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ultralytics.engine.compress.checks.models import load_named
from ultralytics.engine.compress.checks.training import check_training
from ultralytics.engine.compress.reading import read_model
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.budget.solver import OutOfReachError
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.graph.heads import find_head
from ultralytics.engine.pruning.graph.image_size import fit_image_size
from ultralytics.engine.pruning.latency.answer import read_answer
from ultralytics.engine.pruning.latency.bundle import HALVES, KITS, write_bundle
from ultralytics.engine.pruning.latency.runtimes import distribution
from ultralytics.engine.pruning.latency.shapes import conv_shapes, widths_of
from ultralytics.engine.pruning.latency.table import variants
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock
from ultralytics.utils import LOGGER, RUNS_DIR, colorstr
from ultralytics.utils.files import increment_path

BUNDLE = "device"  # folder in that of a run
LEAST_ROUND_TO = 8  # of the network of half the FLOPs


def check_exports(budget: str) -> None:
    """Check the answer of a device, and that networks can be written here for its next trip.

    Args:
        budget (str): Value of 'budget', an answer.json.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, incomplete or of another version.
        ModuleNotFoundError: If a package is missing that exports a network.
    """
    answer = read_answer(budget)
    check_exporters(f"budget={budget}", answer.runtime, answer.precision)


def check_exporters(named: str, runtime: str, precision: str) -> None:
    """Check that the packages are installed that write a bundle.

    Args:
        named (str): The argument that asks for it, with its value.
        runtime (str): A key of `KITS`.
        precision (str): One of its precisions.

    Raises:
        ModuleNotFoundError: If one is missing.
    """
    if missing := KITS[runtime].missing(precision):
        packages = " ".join(map(distribution, missing))
        raise ModuleNotFoundError(f"'{named}' needs {' and '.join(missing)} here: pip install {packages}.")


def write_next_bundle(run: StockTrainer, weights: Path, pruned: nn.Module) -> None:
    """Write what the device has to measure next, beside the run's other results, and say what to do with it.

    Args:
        run (StockTrainer): A `Compressor` whose budget is the answer of a device.
        weights (Path): The model that was cut.
        pruned (nn.Module): What the cut has left.
    """
    budget = run.prune_args.budget
    folder = AnswerCost(read_model(weights)[0], run.args.imgsz, budget).next_bundle(run.save_dir / BUNDLE, pruned.cpu())
    LOGGER.info(
        f"{colorstr('compress:')} only the device can verify the cut: {colorstr('bold', folder)} has the dense and the "
        "pruned network for it. Run measure.py there; if the target is missed, compress again with "
        "its budget=answer.json."
    )


def make_bundle(
    model: str | Path,
    runtime: str,
    imgsz: int = 640,
    precision: str = "fp32",
    threads: int = 1,
    project: str | Path | None = None,
    name: str | None = None,
) -> Path:
    """Write a folder with which another device measures the latency of a model: what `yolo latency` does.

    Args:
        model (str | Path): Trained .pt file.
        runtime (str): Runtime on the device: onnx, openvino, ncnn, mnn, litert or tensorrt (through trtexec).
        imgsz (int): Image size in pixels.
        precision (str): In what the runtime computes, as far as it has them: fp32, fp16, int8; the device can be
            told otherwise.
        threads (int): Threads of the runtime, likewise.
        project (str | Path, optional): Folder of bundles, by default Ultralytics' runs/latency.
        name (str, optional): Name of the bundle's folder, by default those of model and runtime.

    Returns:
        (Path): The folder, numbered if there is one of that name.

    Raises:
        ValueError: If a value is invalid, or the file holds no model.
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If a package is missing that exports the model.

    Examples:
        >>> from ultralytics.engine.compress.device import make_bundle
        >>> folder = make_bundle("best.pt", runtime="ncnn", imgsz=640)
    """
    if runtime not in KITS:
        raise ValueError(f"'runtime={runtime}' is invalid. Valid 'runtime' values are {', '.join(KITS)}.")
    if precision not in KITS[runtime].precisions:
        valid = ", ".join(KITS[runtime].precisions)
        raise ValueError(f"'precision={precision}' is invalid with 'runtime={runtime}', which has {valid}.")
    for key, value in (("imgsz", imgsz), ("threads", threads)):
        if type(value) is not int or value < 1:
            raise ValueError(f"'{key}={value}' is an invalid value. '{key}' must be an int of 1 or more.")
    check_training({"name": name, "project": project})
    check_exporters(f"runtime={runtime}", runtime, precision)
    dense = load_named("model", model)
    find_head(dense)
    place = Path(project or RUNS_DIR / "latency") / str(name or f"{Path(model).stem}-{runtime}")
    size = fit_image_size(dense, imgsz)
    layers = conv_shapes(to_stock(prunable_copy(dense)), size)
    shapes = [variants(shape) for shape in sorted({shape for calls in layers.values() for shape in calls})]
    folder = increment_path(place)
    halves = {name: half for name, together in HALVES.items() if (half := halved(dense, together)) is not None}
    widths = {name: widths_of(conv_shapes(half, size)) for name, half in halves.items()}
    write_bundle(
        folder, runtime, {"dense": dense, **halves}, shapes, size, precision=precision, threads=threads, widths=widths
    )
    LOGGER.info(
        f"Bundle saved to {colorstr('bold', folder)}. Copy it to the device, run 'python3 measure.py' in it, and bring "
        "answer.json back: yolo compress ... budget=answer.json"
    )
    return folder


def halved(dense: nn.Module, together: bool, round_to: int = 16) -> nn.Module | None:
    """Return a network of half the FLOPs, whose time shows how the dense one's shrinks with its channels.

    Args:
        dense (nn.Module): Stock model.
        together (bool): Rank the channels of all layers together, which takes most weights, or each layer alone.
        round_to (int): Multiples of channels that most devices like; small networks may bear a half of it alone.

    Returns:
        (nn.Module | None): It without the channels of least magnitude; None if that many cannot be removed.
    """
    try:
        with warnings_only():  # the cut of a measurement is none of the user's
            return prune_model(dense, Budget(2.0, round_to=round_to, global_pruning=together), prune_method="lamp")[0]
    except OutOfReachError:
        if round_to > LEAST_ROUND_TO:
            return halved(dense, together, round_to // 2)
    LOGGER.info("A network of half the FLOPs cannot be cut: the bundle goes without, and its predictions are worse.")
    return None
