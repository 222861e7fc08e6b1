# SPDX-License-Identifier: AGPL-3.0-or-later
"""TensorRT on the GPU of a board through its command `trtexec`: CUDA events, CUDA graphs, no transfers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from onnx_file import convolutions_file

RESOLUTION = 1e-4
AT_ONCE = 24  # convolutions in one engine, each with an image of its own: TensorRT joins those that read the same one
FLAGS = {"fp32": ["--noTF32"], "fp16": ["--fp16"], "int8": ["--fp16", "--int8"]}
PLACES = (shutil.which("trtexec"), "/usr/src/tensorrt/bin/trtexec")


def version():
    """Return the runtime's version."""
    found = re.search(r"TensorRT v(\d+)", _trtexec("--help", check=False))
    return f"tensorrt-{found.group(1)}" if found else "tensorrt"


def open_network(file, threads, precision):
    """Return a function that runs a network some times and returns the milliseconds of one run on the GPU."""
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]  # the folder may have held another bundle
    engine = Path(file).with_suffix(f".{precision}.{digest}.engine")
    if not engine.exists():  # the build takes minutes
        temporary = engine.with_suffix(".tmp")
        build = "--skipInference" if "--skipInference" in _trtexec("--help", check=False) else "--buildOnly"  # older
        _trtexec(f"--onnx={file}", f"--saveEngine={temporary}", build, *FLAGS[precision])
        os.replace(temporary, engine)
    return partial(_time, engine)


def time_convolutions(shapes, threads, precision, repeats):
    """Return the milliseconds of every convolution, the median of TensorRT's own profile for each run asked for."""
    with tempfile.TemporaryDirectory() as folder:
        model, profile = Path(folder) / "convolutions.onnx", Path(folder) / "profile.json"
        model.write_bytes(convolutions_file(shapes, shared=False))
        runs = [
            f"--iterations={10 * len(repeats)}",
            "--separateProfileRun",
            "--profilingVerbosity=detailed",
            "--noDataTransfers",
        ]
        _trtexec(f"--onnx={model}", f"--exportProfile={profile}", *runs, *FLAGS[precision])
        layers = json.loads(profile.read_text(encoding="utf-8"))
    times = [0.0] * len(shapes)
    for layer in layers:
        name = layer.get("name", "")  # the first entry has none
        own = re.search(r"time(\d+)_", name)
        if own and not name.startswith("Reformatting"):  # a copy to another layout, which a whole network has not
            median = "medianMs" if "medianMs" in layer else "averageMs"  # older releases write no median
            times[int(own.group(1))] += layer[median]
    if not all(times):
        raise SystemExit(
            f"trtexec's profile lacks convolution {times.index(0.0)}: {[layer.get('name') for layer in layers]}"
        )
    return [[ms] * len(repeats) for ms in times]


def _time(engine):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        runs = ["--iterations=50", "--useCudaGraph", "--noDataTransfers", "--useSpinWait"]
        _trtexec(f"--loadEngine={engine}", f"--exportTimes={file}", *runs)
        times = sorted(run["computeMs"] for run in json.loads(file.read_text(encoding="utf-8")))
    return float(times[len(times) // 2])


def _trtexec(*options, check=True):
    command = next((place for place in PLACES if place and Path(place).exists()), None)
    if command is None:
        raise SystemExit("trtexec is not installed: it comes with TensorRT, on a Jetson in /usr/src/tensorrt/bin.")
    done = subprocess.run([command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"trtexec {' '.join(options)} failed:\n{done.stdout[-2000:]}")
    return done.stdout
