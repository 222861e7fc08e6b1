# SPDX-License-Identifier: AGPL-3.0-or-later
"""LiteRT on the CPU of a board, whose convolutions are models of one operator."""

from __future__ import annotations

from importlib.metadata import version as version_of

import flatbuffers  # which ai-edge-litert requires
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

RESOLUTION = 0.0
AT_ONCE = 8
SCALES = {"image": 1 / 64, "weight": 1 / 256, "LOGISTIC": 1 / 256}  # of INT8; that of other tensors is 1 / 16
SAME, VALID = 0, 1  # paddings; SAME may pad the other side, which takes as long


def version():
    """Return the runtime's version."""
    return f"litert-{version_of('ai-edge-litert')}"


def open_network(file, threads, precision):
    """Return a function that runs a network once on a random image."""
    return _interpreter(threads, model_path=str(file)).invoke


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of each run of every convolution; channels are last, as in a whole network."""
    return [_time(shape, threads, precision, repeats) for shape in shapes]


def _time(shape, threads, precision, repeats):
    interpreter = _interpreter(threads, model_content=_model(shape, precision == "int8"))
    times = []
    for _ in repeats:
        begin = repeats.clock()
        interpreter.invoke()
        times.append(1e3 * (repeats.clock() - begin))
    return times


def _interpreter(threads, **model):
    interpreter = Interpreter(num_threads=threads, **model)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for i in interpreter.get_input_details():
        values = random.random(i["shape"], dtype=np.float32)
        interpreter.set_tensor(i["index"], values if i["dtype"] is np.float32 else (values * 127).astype(i["dtype"]))
    return interpreter


def _model(shape, int8):
    """Return the content of a .tflite file; in INT8, a scale for each output of the weights, as in a whole network."""
    channels = shape.outputs if shape.depthwise else shape.inputs
    graph = schema.SubGraphT()
    model = schema.ModelT()
    model.version, model.description, model.subgraphs = 3, "convolution", [graph]
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    graph.tensors, graph.operators = [], []

    def tensor(name, size, content=None):
        new = schema.TensorT()
        new.name, new.shape, new.buffer = name, list(size), 0
        new.type = schema.TensorType.INT32 if name == "size" else schema.TensorType.FLOAT32
        if int8 and name != "size":
            new.type = schema.TensorType.INT32 if name == "bias" else schema.TensorType.INT8
            new.quantization = _scales(name, shape)
        if content is not None:
            new.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(content.tobytes(), np.uint8)
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    def operator(name, inputs, size, options=None, kind=0):
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        model.operatorCodes.append(code)
        new = schema.OperatorT()
        new.opcodeIndex, new.inputs = len(model.operatorCodes) - 1, inputs
        new.outputs = [tensor(name, size)]
        new.builtinOptions, new.builtinOptionsType = options, kind
        graph.operators.append(new)
        return new.outputs[0]

    (height, width), (down, right) = shape.kernel, shape.stride
    image = tensor("image", [1, shape.height, shape.width, channels])
    lead = [1] if shape.depthwise else [shape.outputs]
    sizes = [*lead, height, width, shape.outputs if shape.depthwise else channels]
    values = np.random.default_rng(0).random(sizes, dtype=np.float32) - 0.5
    weight = tensor("weight", sizes, (values * 254).astype(np.int8) if int8 else values)
    bias = tensor("bias", [shape.outputs], np.zeros(shape.outputs, np.int32 if int8 else np.float32))
    if shape.transposed:
        name, options = "TRANSPOSE_CONV", schema.TransposeConvOptionsT()
        out = [1, shape.height * down, shape.width * right, shape.outputs]
        inputs = [tensor("size", [4], np.array(out, np.int32)), weight, image, bias]
    else:
        name = "DEPTHWISE_CONV_2D" if shape.depthwise else "CONV_2D"
        options = schema.DepthwiseConv2DOptionsT() if shape.depthwise else schema.Conv2DOptionsT()
        options.dilationHFactor, options.dilationWFactor = shape.dilation
        if shape.depthwise:
            options.depthMultiplier = 1
        out, inputs = [1, -(-shape.height // down), -(-shape.width // right), shape.outputs], [image, weight, bias]
    options.padding = SAME if any(shape.padding) or shape.transposed else VALID
    options.strideH, options.strideW = down, right
    if shape.activation == "ReLU":
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    kind = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
    result = operator(name, inputs, out, options, kind)
    if shape.activation == "SiLU":
        gate = operator("LOGISTIC", [result], out)
        result = operator("MUL", [result, gate], out, schema.MulOptionsT(), schema.BuiltinOptions.MulOptions)
    graph.inputs, graph.outputs = [image], [result]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _scales(name, shape):
    """Return how the INT8 values of a tensor are meant."""
    new = schema.QuantizationParametersT()
    scale, count = SCALES.get(name, 1 / 16), 1
    if name in ("weight", "bias"):
        count = shape.outputs
        new.quantizedDimension = 3 if shape.depthwise and name == "weight" else 0
    if name == "bias":
        scale = SCALES["image"] * SCALES["weight"]
    new.scale, new.zeroPoint = [scale] * count, [-128 if name == "LOGISTIC" else 0] * count
    return new
