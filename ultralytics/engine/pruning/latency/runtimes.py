# SPDX-License-Identifier: AGPL-3.0-or-later
"""How long single convolutions take in a runtime."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ultralytics.engine.pruning.latency.inference import inference_settings, memory_format, synchronized_time
from ultralytics.engine.pruning.latency.onnx_session import open_session
from ultralytics.engine.pruning.latency.shapes import ConvShape

WARMUP, REPEATS = 2, 8  # runs that do not count, and runs of which the fastest counts
OPSET = 17
TAG = "time{}_"  # begins the name of every node of a convolution


def time_in_pytorch(shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
    """Time convolutions in PyTorch, FP32, batch 1, with the memory layout that they have in a whole network.

    Args:
        shapes (Sequence[ConvShape]): Convolutions with their activations.
        device (torch.device): Where to run.

    Returns:
        (list[float]): Milliseconds of each, the fastest of some runs.
    """
    layout = memory_format(device)
    times = []
    with torch.no_grad(), inference_settings():
        for shape in shapes:
            module = _module(shape).to(device).eval().to(memory_format=layout)
            image = torch.rand(1, *_input_size(shape), device=device).to(memory_format=layout)
            runs = []
            for _ in range(WARMUP + REPEATS):
                begin = synchronized_time(device)
                module(image)
                runs.append(synchronized_time(device) - begin)
            times.append(1e3 * min(runs[WARMUP:]))
    return times


def time_in_onnx(shapes: Sequence[ConvShape], device: torch.device) -> list[float]:
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


RUNTIMES = {"pytorch": time_in_pytorch, "onnx": time_in_onnx}


def _input_size(shape: ConvShape) -> tuple[int, int, int]:
    return shape.outputs if shape.depthwise else shape.inputs, shape.height, shape.width


def _module(shape: ConvShape) -> nn.Module:
    make = nn.ConvTranspose2d if shape.transposed else nn.Conv2d
    channels = _input_size(shape)[0]
    groups = channels if shape.depthwise else 1
    place = {"stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation, "groups": groups}
    conv = make(channels, shape.outputs, shape.kernel, **place)
    return nn.Sequential(conv, getattr(nn, shape.activation)()) if shape.activation else conv


def _graph(shapes: Sequence[ConvShape]) -> bytes:
    """Return an ONNX model that has every convolution once, convolutions of equal inputs reading the same one."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, nodes, weights, results = {}, [], [], []
    random = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        tag, size = TAG.format(i), _input_size(shape)
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
