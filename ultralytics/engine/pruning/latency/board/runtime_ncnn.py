# SPDX-License-Identifier: AGPL-3.0-or-later
"""ncnn on the CPU of a board, whose convolutions are small networks of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ncnn
import numpy as np

RESOLUTION = 0.0
AT_ONCE = 8
KINDS = {"plain": "Convolution", "depthwise": "ConvolutionDepthWise", "transposed": "Deconvolution"}


def version():
    """Return the runtime's version."""
    return f"ncnn-{ncnn.__version__}"


def open_network(file, threads, precision):
    """Return a function that runs a network once on a random image."""
    net = _net(threads, precision)
    if net.load_param(str(file)) or net.load_model(str(Path(file).with_suffix(".bin"))):
        raise SystemExit(f"ncnn cannot read '{file}'.")
    size = [int(word) for word in Path(file).with_suffix(".size").read_text(encoding="utf-8").split()]
    image = _image(size)
    inputs, outputs = net.input_names(), net.output_names()

    def run():
        extractor = net.create_extractor()
        extractor.input(inputs[0], image)
        for name in outputs:
            extractor.extract(name)

    return run


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of each run of every convolution.

    The image passes through a layer first, which leaves it in the layout that a whole network has inside; a pooling to
    one pixel follows, so that no more than that is laid out again for the caller. The pooling's time is taken off.
    """
    return [_time(shape, threads, precision, repeats) for shape in shapes]


def _time(shape, threads, precision, repeats):
    channels = shape.outputs if shape.depthwise else shape.inputs
    image = _image((channels, shape.height, shape.width))
    net = _net(threads, precision)
    _load(net, *_files(shape, channels))
    times = []
    for _ in repeats:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input("image", image)
        extractor.extract("first")
        begin = repeats.clock()
        extractor.extract("conv_pooled")
        middle = repeats.clock()
        extractor.extract("again_pooled")
        end = repeats.clock()
        times.append(1e3 * max(middle - begin - (end - middle), (middle - begin) / 10))
    return times


def _files(shape, channels):
    """Return the text of a network and its weights: layers read by name, every layer's weights in order."""
    (height, width), (down, right), (top, left) = shape.kernel, shape.stride, shape.padding
    count = height * width * shape.outputs * (1 if shape.depthwise else channels)
    values = {0: shape.outputs, 1: width, 11: height, 2: shape.dilation[1], 12: shape.dilation[0], 3: right, 13: down}
    values.update({4: left, 14: top, 5: 1, 6: count})
    kind = "transposed" if shape.transposed else "depthwise" if shape.depthwise else "plain"
    if shape.depthwise:
        values[7] = channels
    if shape.activation == "ReLU":
        values[9] = 1
    numbers = " ".join(f"{key}={value}" for key, value in values.items())
    swish = shape.activation == "SiLU"
    lines = ["Input image 0 1 image", "ReLU first 1 1 image first", f"{KINDS[kind]} conv 1 1 first conv {numbers}"]
    lines += ["Swish act 1 1 conv act"] if swish else []
    lines += [
        f"Split split 1 2 {'act' if swish else 'conv'} one two",
        "Pooling conv_pooled 1 1 one conv_pooled 0=1 4=1",
        "Pooling again_pooled 1 1 two again_pooled 0=1 4=1",
    ]
    blobs = sum(int(line.split()[3]) for line in lines)
    text = "\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n"
    weights = np.random.default_rng(0).random(count, dtype=np.float32) - 0.5
    return text, b"\0\0\0\0" + weights.tobytes() + bytes(4 * shape.outputs)


def _image(size):
    array = np.random.default_rng(0).random(size, dtype=np.float32)
    return ncnn.Mat(array).clone()  # a Mat that is made of an array does not own its memory


def _load(net, text, weights):
    with tempfile.TemporaryDirectory() as folder:
        param, model = Path(folder) / "a.param", Path(folder) / "a.bin"
        param.write_text(text, encoding="utf-8")
        model.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(model)):
            raise SystemExit(f"ncnn cannot load a convolution:\n{text}")


def _net(threads, precision):
    net = ncnn.Net()
    net.opt.num_threads = threads
    half = precision == "fp16"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    net.opt.use_bf16_storage = False
    return net
