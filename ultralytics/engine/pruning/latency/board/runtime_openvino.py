# SPDX-License-Identifier: AGPL-3.0-or-later
"""OpenVINO on the CPU of a board; times of convolutions come from its own profile."""

from __future__ import annotations

import numpy as np
import openvino
from onnx_file import convolutions_file

RESOLUTION = 1e-3  # milliseconds, of its profile
AT_ONCE = 8


def version():
    """Return the runtime's version."""
    return f"openvino-{openvino.__version__.partition('-')[0]}"


def open_network(file, threads, precision):
    """Return a function that runs a network once on a random image."""
    return _request(str(file), threads, precision)[0].infer


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of each run of every convolution, in the memory layout of a whole network."""
    file = convolutions_file(shapes, int8=precision == "int8", fused=True)
    request, own = _request(file, threads, precision, profile=True)
    times = [[] for _ in shapes]
    for _ in repeats:
        request.infer()
        spent = [0.0] * len(shapes)
        for event in request.profiling_info:
            i = own.get(event.node_name.split("/")[0])
            if i is not None and event.node_type != "Reorder":  # for this graph's results, which a network lacks
                spent[i] += event.real_time.total_seconds() * 1e3
        for runs, ms in zip(times, spent):
            runs.append(ms)
    return times


def _request(model, threads, precision, profile=False):
    core = openvino.Core()
    model = core.read_model(model)
    own = {}
    for node in model.get_ops():
        name = node.get_friendly_name()
        if name.startswith("time"):
            own[name] = int(name[len("time") : name.index("_")])
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":  # else OpenVINO chooses what floats are by itself, BF16 or FP16 where the CPU has it
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    if profile:
        settings["PERF_COUNT"] = True
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    random = np.random.default_rng(0)
    for i, port in enumerate(model.inputs):
        image = random.random(tuple(port.shape), dtype=np.float32)
        request.set_input_tensor(i, openvino.Tensor(image))
    return request, own
