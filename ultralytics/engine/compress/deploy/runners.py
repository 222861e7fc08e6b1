# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exported files opened in their runtimes for timing, with a given number of threads, on a random input of batch 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ultralytics.engine.pruning.latency.onnx_runtime import open_session
from ultralytics.nn.autobackend import AutoBackend


class Opened(NamedTuple):
    """A file that is ready to run.

    Attributes:
        run (Callable): Runs it once.
        threads (int | None): Threads in effect; None if the runtime decides and does not say.
        precision (str): What floating-point layers are computed in, as far as the runtime says; empty if it does not.
    """

    run: Callable[[], Any]
    threads: int | None = None
    precision: str = ""


def open_onnx(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a file in ONNX Runtime on the CPU."""
    session, feed = open_session(str(file), threads, shape=shape)
    return Opened(partial(session.run, None, feed), threads, "f32")


def open_openvino(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a folder in OpenVINO on the CPU, which computes in bf16 where the CPU can, unless it is told otherwise."""
    import openvino as ov

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    model = ov.Core().compile_model(next(file.glob("*.xml")), "CPU", config)
    request = model.create_infer_request()
    precision = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Opened(
        partial(request.infer, {0: random_image(shape)}), int(model.get_property("INFERENCE_NUM_THREADS")), precision
    )


def open_litert(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a file in LiteRT on the CPU, with its XNNPACK kernels."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], random_image(tuple(details["shape"])).astype(details["dtype"]))
    return Opened(interpreter.invoke, threads, "f32")


def open_ncnn(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a folder in ncnn on the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(str(next(file.glob("*.param"))))
    net.load_model(str(next(file.glob("*.bin"))))
    image = random_image(shape)[0]

    def run() -> None:
        with net.create_extractor() as extractor:
            extractor.input(net.input_names()[0], ncnn.Mat(image))
            for name in net.output_names():
                extractor.extract(name)

    return Opened(run, threads, "f16 storage" if net.opt.use_fp16_storage else "f32")


def open_mnn(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a file in MNN on the CPU, at the precision at which Ultralytics runs it."""
    from ultralytics.utils.files import import_execstack  # which older releases lack

    mnn = import_execstack("MNN", "_mnncengine*.so", "_tools*.so")
    precision = "low"
    manager = mnn.nn.create_runtime_manager(({"precision": precision, "backend": "CPU", "numThread": threads},))
    net = mnn.nn.load_module_from_file(str(file), [], [], runtime_manager=manager, rearrange=True)
    image = torch.from_numpy(random_image(shape))

    def run() -> None:
        for output in net.onForward([mnn.expr.const(image.data_ptr(), image.shape)]):
            output.read()

    return Opened(run, threads, f"precision={precision}")


def open_torchscript(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a file in TorchScript on the CPU."""
    model = torch.jit.load(str(file), map_location="cpu").eval()
    return Opened(_without_gradients(model, torch.from_numpy(random_image(shape))), torch.get_num_threads(), "f32")


def open_with_ultralytics(file: Path, shape: tuple[int, ...], threads: int, device: torch.device) -> Opened:
    """Open a file as Ultralytics does, on the device of its validation, with the threads that the runtime takes."""
    backend = AutoBackend(str(file), device=device)
    image = torch.from_numpy(random_image(shape)).to(backend.device)
    return Opened(_without_gradients(backend, image.half() if backend.fp16 else image))


def random_image(shape: tuple[int, ...]) -> np.ndarray:
    """Return a random image of FP32 with values in [0, 1)."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _without_gradients(model: Callable, image: torch.Tensor) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return model(image)

    return run
