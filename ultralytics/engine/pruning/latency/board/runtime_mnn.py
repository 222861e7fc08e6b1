# SPDX-License-Identifier: AGPL-3.0-or-later
"""MNN on the CPU of a board, whose convolutions are small models in MNN's own layout."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import MNN
import MNN.expr as F
import numpy as np

RESOLUTION = 0.0
AT_ONCE = 8
MODES = {"fp32": "high", "fp16": "low"}


def version():
    """Return the runtime's version."""
    return f"MNN-{MNN.version()}"


def open_network(file, threads, precision):
    """Return a function that runs a network once on a random image."""
    interpreter = MNN.Interpreter(str(file))
    session = interpreter.createSession({"numThread": threads, "precision": MODES[precision], "backend": "CPU"})
    image = interpreter.getSessionInput(session)
    size = image.getShape()
    array = np.random.default_rng(0).random(size, dtype=np.float32)
    image.copyFrom(MNN.Tensor(size, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe))
    return partial(_run, interpreter, session)


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of each run of every convolution, its image and its result in MNN's own layout."""
    return [_time(shape, threads, precision, repeats) for shape in shapes]


def _time(shape, threads, precision, repeats):
    channels = shape.outputs if shape.depthwise else shape.inputs
    random = np.random.default_rng(0)
    image = F.placeholder([1, channels, shape.height, shape.width], F.NC4HW4)
    image.name = "image"
    groups = channels if shape.depthwise else 1
    first, second = (channels, shape.outputs) if shape.transposed else (shape.outputs, channels // groups)
    kernel = random.random((first, second, *shape.kernel), dtype=np.float32) - 0.5
    weight = F.const(kernel, [first, second, *shape.kernel], F.NCHW, F.float)
    bias = F.const(np.zeros(shape.outputs, np.float32), [shape.outputs], F.NCHW, F.float)
    make = F.conv2d_transpose if shape.transposed else F.conv2d
    out = make(image, weight, bias, list(shape.stride), list(shape.padding), list(shape.dilation), groups)
    if shape.activation == "ReLU":
        out = F.relu(out)
    elif shape.activation == "SiLU":
        out = F.multiply(out, F.sigmoid(out))
    out.name = "result"
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "a.mnn")
        F.save([out], file)
        interpreter = MNN.Interpreter(file)
    session = interpreter.createSession({"numThread": threads, "precision": MODES[precision], "backend": "CPU"})
    times = []
    for _ in repeats:
        begin = repeats.clock()
        _run(interpreter, session)
        times.append(1e3 * (repeats.clock() - begin))
    return times


def _run(interpreter, session):
    if interpreter.runSession(session):
        raise SystemExit("MNN could not run a model.")
