# SPDX-License-Identifier: AGPL-3.0-or-later
"""Convolutions as an ONNX model, written without the package `onnx`, which boards lack."""

from __future__ import annotations

import numpy as np

OPSET, IR_VERSION = 17, 8
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
INT, INTS = 2, 7  # types of attributes


def convolutions_file(shapes, shared=True, int8=False, fused=False):
    """Return an ONNX model that has every convolution once; if shared, those of equal inputs read the same one.

    The nodes of the i-th convolution and their outputs have names that begin with `tag(i)`: a runtime names what it
    fuses by either. For INT8 a convolution stands between quantisers: unsigned inputs and outputs, a scale for each
    output channel of the weights, activations in float. ONNX Runtime has them on either side of the convolution, and
    runs them as they are. If the runtime fuses quantisers with what comes before, the second stands behind the
    activation, and the first, which belongs to another convolution in a network, has another name.
    """
    random = np.random.default_rng(0)
    images, nodes, weights, results = {}, [], [], []
    for i, shape in enumerate(shapes):
        begin, channels = tag(i), shape.outputs if shape.depthwise else shape.inputs
        image = f"image{channels}x{shape.height}x{shape.width}" if shared else f"image{i}"
        images[image] = _value(image, (1, channels, shape.height, shape.width))
        groups = channels if shape.depthwise else 1
        first, second = (channels, shape.outputs) if shape.transposed else (shape.outputs, channels // groups)
        kernel = random.random((first, second, *shape.kernel), dtype=np.float32) - 0.5
        attributes = [
            _attribute("kernel_shape", shape.kernel),
            _attribute("strides", shape.stride),
            _attribute("pads", [*shape.padding, *shape.padding]),
            _attribute("dilations", shape.dilation),
            _attribute("group", groups),
        ]
        quantised = int8 and not shape.transposed  # of which ONNX Runtime has no kernel for INT8
        if quantised:
            before, constants = _quantised(i, image, kernel, f"before{i}_" if fused else begin)
            nodes += before
            operands = [begin + name for name in ("image", "weights", "biases")]
        else:
            constants = {"weight": kernel}
            if not shape.transposed:  # of which OpenVINO forgets the name when it adds a bias
                constants["bias"] = np.zeros(shape.outputs, np.float32)
            operands = [image, *(begin + name for name in constants)]
        weights += [_tensor(begin + name, array) for name, array in constants.items()]
        out = begin + "conv"
        nodes.append(_node("ConvTranspose" if shape.transposed else "Conv", operands, out, attributes))
        if quantised and not fused:
            nodes += _between(begin, "out", out, begin + "out_int8", begin + "out")
            out = begin + "out"
        if shape.activation == "ReLU":
            nodes.append(_node("Relu", [out], begin + "act"))
        elif shape.activation == "SiLU":
            nodes.append(_node("Sigmoid", [out], begin + "gate"))
            nodes.append(_node("Mul", [out, begin + "gate"], begin + "act"))
        out = begin + "act" if shape.activation else out
        if quantised and fused and shape.activation:
            nodes += _between(begin, "out", out, begin + "out_int8", f"after{i}")
            out = f"after{i}"
        results.append(_value(out, (1, shape.outputs, *_left(shape))))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"convolutions")
    graph += b"".join(_bytes(5, tensor) for tensor in weights)
    graph += b"".join(_bytes(11, value) for value in images.values())
    graph += b"".join(_bytes(12, value) for value in results)
    return _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, OPSET))


def _quantised(i, image, kernel, before):
    """Return the nodes in front of the i-th convolution that quantise what it reads, and their constants by name.

    Of equal scales a runtime would quantise an image once for all of its convolutions; and it takes a convolution for
    one of INT8 only if the scale of the bias is that of the image times that of the weights.
    """
    begin, outputs = tag(i), len(kernel)
    scale, scales = np.float32((1 + i / 1e3) / 255), np.full(outputs, 1 / 255, np.float32)
    constants = {
        "weight": np.round(255 * kernel).clip(-127, 127).astype(np.int8),
        "weight_scale": scales,
        "weight_zero": np.zeros(outputs, np.int8),
        "bias": np.zeros(outputs, np.int32),
        "bias_scale": scale * scales,
        "bias_zero": np.zeros(outputs, np.int32),
        "in_scale": scale,
        "in_zero": np.uint8(0),
        "out_scale": np.float32(0.1),
        "out_zero": np.uint8(128),
    }
    nodes = _between(begin, "in", image, before + "in_int8", begin + "image")
    for name, output in (("weight", "weights"), ("bias", "biases")):
        names = [begin + name, *_scaled(begin, name)]
        nodes.append(_node("DequantizeLinear", names, begin + output, [_attribute("axis", 0)]))
    return nodes, constants


def _between(begin, kind, source, quantised, output):
    """Return the two nodes that quantise a tensor and read it again."""
    scaled = _scaled(begin, kind)
    first = _node("QuantizeLinear", [source, *scaled], quantised)
    return [first, _node("DequantizeLinear", [quantised, *scaled], output)]


def _scaled(begin, kind):
    """Return the names of a scale and a zero point."""
    return [f"{begin}{kind}_scale", f"{begin}{kind}_zero"]


def tag(i):
    """Return what the names of the i-th convolution begin with."""
    return f"time{i}_"


def _left(shape):
    """Return height and width of what a convolution computes."""
    sizes = []
    for axis, size in enumerate((shape.height, shape.width)):
        reach, step = shape.dilation[axis] * (shape.kernel[axis] - 1) + 1, shape.stride[axis]
        pad = 2 * shape.padding[axis]
        sizes.append((size - 1) * step - pad + reach if shape.transposed else (size + pad - reach) // step + 1)
    return sizes


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _number(field, number):
    return _varint(field << 3) + _varint(number)


def _bytes(field, content):
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _attribute(name, value):
    if isinstance(value, int):
        return _bytes(1, name.encode()) + _number(3, value) + _number(20, INT)
    return _bytes(1, name.encode()) + b"".join(_number(8, v) for v in value) + _number(20, INTS)


def _node(operator, inputs, output, attributes=()):
    content = b"".join(_bytes(1, name.encode()) for name in inputs) + _bytes(2, output.encode())
    content += _bytes(3, output.encode()) + _bytes(4, operator.encode())
    return content + b"".join(_bytes(5, attribute) for attribute in attributes)


def _tensor(name, array):
    content = b"".join(_number(1, size) for size in array.shape) + _number(2, TYPES[str(array.dtype)])
    return content + _bytes(8, name.encode()) + _bytes(9, array.astype(array.dtype.newbyteorder("<")).tobytes())


def _value(name, sizes):
    tensor = _number(1, TYPES["float32"]) + _bytes(2, b"".join(_bytes(1, _number(1, size)) for size in sizes))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))
