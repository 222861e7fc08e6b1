# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runtime 'onnx': latency of models and of single convolutions in ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.compress.compat.export import traced_export
from ultralytics.engine.exporter import Exporter
from ultralytics.engine.pruning.latency.shapes import REPEATS, WARMUP, ConvShape
from ultralytics.engine.pruning.latency.turns import Timing, take_turns
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.nn.tasks import guess_model_task

if TYPE_CHECKING:
    import onnxruntime

OPSET = 17
TAG = "time{}_"  # begins the name of every node of a convolution


def onnx_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device | None = None) -> dict[str, Timing]:
    """Time a run of each model in ONNX Runtime on the CPU, batch 1, FP32, with as many threads as torch uses.

    Args:
        models (dict[str, nn.Module]): Name to model, unfused; copies are exported by Ultralytics to a temporary folder.
        imgsz (int): Image size in pixels.
        device (torch.device, optional): Unused: ONNX Runtime runs on the CPU.

    Returns:
        (dict[str, Timing]): Name to milliseconds.
    """
    threads = torch.get_num_threads()
    # ONNX Runtime optimises the graph by itself when it loads it
    settings = {"format": "onnx", "imgsz": imgsz, "batch": 1, "simplify": False, "device": "cpu", "verbose": False}
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, model) in enumerate(models.items()):
            copy = deepcopy(model).cpu().float()
            copy.task = guess_model_task(copy)
            copy.pt_path = str(Path(folder) / f"{i}.pt")  # where the exporter puts the ONNX file
            with traced_export(), warnings_only():  # which would concern a file that is deleted at once
                file = Exporter(overrides=settings)(model=copy)
            session, feed = open_session(file, threads)
            torch.set_num_threads(threads)  # the exporter sets Ultralytics' own number
            runs[name] = partial(session.run, None, feed)
        return take_turns(runs, torch.device("cpu"), "Latency in ONNX Runtime")


def onnx_convolutions(shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
    """Time convolutions in ONNX Runtime on the CPU, FP32, batch 1, with as many threads as torch uses.

    All of them are nodes of one graph, and their times come from ONNX Runtime's own profile: so they have the memory
    layout that ONNX Runtime gives them in a whole network, and changes of layout do not count.

    Args:
        shapes (Sequence[ConvShape]): Convolutions with their activations.
        device (torch.device): Unused: ONNX Runtime runs on the CPU.

    Returns:
        (list[float]): Milliseconds of each, the fastest of some runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        session, feed = open_session(_graph(shapes), torch.get_num_threads(), profile=Path(folder) / "profile")
        for _ in range(WARMUP + REPEATS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times = []
    for i in range(len(shapes)):
        own: dict[str, list[float]] = {}
        for event in events:
            if event["name"].startswith(TAG.format(i)) and event["name"].endswith("_kernel_time"):
                own.setdefault(event["name"], []).append(event["dur"])
        times.append(1e-3 * sum(min(runs[WARMUP:]) for runs in own.values()))
    return times


def onnx_version(device: torch.device | None = None) -> str:
    """Return the version; builds for GPUs install under other names of the distribution."""
    import onnxruntime

    return f"onnxruntime-{onnxruntime.__version__}"


def open_session(
    model: str | bytes, threads: int, profile: Path | None = None
) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    """Open a model on the CPU.

    Args:
        model (str | bytes): ONNX file or its content.
        threads (int): Threads inside an operator.
        profile (Path, optional): Write a profile of every run to files that begin so.

    Returns:
        session (onnxruntime.InferenceSession): Session.
        feed (dict[str, np.ndarray]): A random input of FP32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # a session's idle threads would spin on while another session is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    return session, {i.name: random.random(i.shape, dtype=np.float32) for i in session.get_inputs()}


def _graph(shapes: Sequence[ConvShape]) -> bytes:
    """Return an ONNX model that has every convolution once, convolutions of equal inputs reading the same one."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, nodes, weights, results = {}, [], [], []
    random = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        tag, size = TAG.format(i), shape.input_size
        image = "image{}x{}x{}".format(*size)
        inputs[image] = helper.make_tensor_value_info(image, TensorProto.FLOAT, [1, *size])
        groups = size[0] if shape.depthwise else 1
        first, second = (size[0], shape.outputs) if shape.transposed else (shape.outputs, size[0] // groups)
        weight = random.random((first, second, *shape.kernel), dtype=np.float32) - 0.5
        weights += [
            numpy_helper.from_array(weight, f"{tag}weight"),
            numpy_helper.from_array(np.zeros(shape.outputs, np.float32), f"{tag}bias"),
        ]
        # ONNX Runtime names what it fuses by the nodes or by the outputs of the nodes
        conv = helper.make_node(
            "ConvTranspose" if shape.transposed else "Conv",
            [image, f"{tag}weight", f"{tag}bias"],
            [f"{tag}conv"],
            name=f"{tag}conv",
            kernel_shape=shape.kernel,
            strides=shape.stride,
            pads=shape.padding * 2,
            dilations=shape.dilation,
            group=groups,
        )
        nodes += [conv, *(helper.make_node(*node, name=node[2][0]) for node in _activation(shape.activation, tag))]
        results.append(helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "convolutions", list(inputs.values()), results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return model.SerializeToString()


def _activation(name: str, tag: str) -> list[tuple[str, list[str], list[str]]]:
    """Return an activation as ONNX has it: operator, inputs and outputs of each node."""
    return {
        "": [],
        "ReLU": [("Relu", [f"{tag}conv"], [f"{tag}act"])],
        "SiLU": [
            ("Sigmoid", [f"{tag}conv"], [f"{tag}gate"]),
            ("Mul", [f"{tag}conv", f"{tag}gate"], [f"{tag}act"]),
        ],
    }[name]
