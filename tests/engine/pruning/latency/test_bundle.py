# SPDX-License-Identifier: AGPL-3.0-or-later
"""A bundle is measured in a process that has NumPy and one runtime, goes on when it was stopped, and refuses noise."""

import ast
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import build_model

from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.answer import SCHEMA, read_answer
from ultralytics.engine.pruning.latency.board import device as board_device
from ultralytics.engine.pruning.latency.bundle import ALWAYS, BOARD, KITS, write_bundle
from ultralytics.engine.pruning.latency.networks import EXPORTS
from ultralytics.engine.pruning.latency.runner import RunnerError, ask_device, run_bundle
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.latency.shapes import ConvShape, conv_shapes
from ultralytics.engine.pruning.latency.table import LatencyTable

BARE = "import sys, runpy; sys.modules.update(torch=None, ultralytics=None, onnx=None, cv2=None); del sys.argv[0]; "
BARE += "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
INSTALLED = [name for name in KITS if name in RUNTIMES and not RUNTIMES[name].missing()]
BOARD_FILES = {file.name for file in BOARD.glob("*.py")} - {"__init__.py"}
needs_onnx = pytest.mark.skipif("onnx" not in INSTALLED, reason="needs ONNX Runtime")


def shapes_of(*kinds):
    """Return small convolutions, each kind at two widths: plain, strided, depthwise, transposed."""
    base = ConvShape(16, 16, (3, 3), (1, 1), (1, 1), (1, 1), False, False, "SiLU", 10, 10)
    known = {
        "plain": base,
        "point": base._replace(kernel=(1, 1), padding=(0, 0), activation=""),
        "strided": base._replace(stride=(2, 2), activation="ReLU"),
        "depthwise": base._replace(depthwise=True),
        "transposed": base._replace(kernel=(2, 2), stride=(2, 2), padding=(0, 0), transposed=True, activation=""),
    }
    return [[known[kind].resized(8, 8), known[kind]] for kind in kinds or known]


def measure(folder, *options):
    """Measure a bundle in a process that cannot import PyTorch, Ultralytics or ONNX."""
    words = [sys.executable, "-c", BARE, str(folder / "measure.py"), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("runtime", INSTALLED)
def test_a_bundle_is_measured_without_pytorch(runtime, tmp_path):
    shapes = shapes_of()
    folder = write_bundle(tmp_path / "bundle", runtime, {"dense": build_model("yolov8n")}, shapes, 32)
    done = measure(folder, "--anyway", "--power", "15W")
    assert done.returncode == 0, done.stderr
    assert f"Written: {folder / 'answer.json'}" in done.stderr and "5/5 convolutions" in done.stderr
    answer = read_answer(folder / "answer.json")
    assert answer.times.keys() == {shape.key for group in shapes for shape in group}
    assert (answer.runtime, answer.precision, answer.threads, answer.imgsz) == (runtime, "fp32", 1, 32)
    assert answer.networks.keys() == {"dense"} and answer.networks["dense"].low > max(answer.times.values())
    found = json.loads((folder / "answer.json").read_text())
    assert found["power"] == "15W" and found["schema"] == SCHEMA and answer.device["name"] in answer.place
    assert 0 < found["memory_mb"] < 256


def test_every_runtime_has_what_its_bundle_needs():
    assert KITS.keys() == EXPORTS.keys() and KITS.keys() - {"tensorrt"} < RUNTIMES.keys()
    assert {*ALWAYS, *(script for kit in KITS.values() for script in kit.scripts)} == BOARD_FILES


@pytest.mark.parametrize("script", sorted(BOARD.glob("*.py")), ids=lambda file: file.name)
def test_scripts_are_python_3_8_and_import_little(script):
    tree = ast.parse(script.read_text(encoding="utf-8"), feature_version=(3, 8))
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {
        name for n in nodes for name in ([n.module] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names])
    }
    tops = {name.partition(".")[0] for name in names} - {file.stem for file in BOARD.glob("*.py")}
    runtime = {"onnxruntime", "openvino", "ncnn", "MNN", "ai_edge_litert", "flatbuffers"}
    assert tops - runtime - {"numpy"} <= getattr(sys, "stdlib_module_names", tops)  # from Python 3.10 on


@needs_onnx
def test_measuring_goes_on_where_it_was_killed(tmp_path):
    groups = [[s._replace(height=size, width=size) for s in g] for size in range(10, 40) for g in shapes_of("plain")]
    folder = write_bundle(tmp_path / "bundle", "onnx", {"dense": build_model("yolov3-tiny", nc=2)}, groups, 32)
    process = subprocess.Popen([sys.executable, "-c", BARE, str(folder / "measure.py"), "--anyway"])
    answer = folder / "answer.json"
    while not answer.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    with pytest.raises(ValueError, match=r"is incomplete: measuring was stopped. Run .* It goes on where it was"):
        read_answer(answer)
    earlier = json.loads(answer.read_text())["convolutions"]
    assert 0 < len(earlier) < 60
    assert measure(folder, "--anyway").returncode == 0
    convolutions = json.loads(answer.read_text())["convolutions"]
    assert len(convolutions) == 60 and {key: convolutions[key] for key in earlier} == earlier
    done = measure(folder, "--anyway", "--threads", "2")
    assert "measured under other conditions: all is measured anew" in done.stderr


@needs_onnx
def test_noise_is_not_written(tmp_path):
    folder = write_bundle(tmp_path / "bundle", "onnx", {"dense": build_model("yolov3-tiny", nc=2)}, [], 32)
    done = measure(folder, "--noise", "0")  # no two runs take as long
    assert done.returncode == 1 and "Not written to its end: dense cannot be told from noise" in done.stderr
    with pytest.raises(ValueError, match="is incomplete"):
        read_answer(folder / "answer.json")
    assert measure(folder, "--noise", "0", "--anyway").returncode == 0
    assert json.loads((folder / "answer.json").read_text())["noisy"] == ["dense"]


@needs_onnx
@pytest.mark.parametrize(("written", "asked"), [("fp32", "fp16"), ("fp32", "int8"), ("int8", "fp32")])
def test_a_precision_that_a_folder_lacks_is_refused_on_the_device(tmp_path, written, asked):
    folder = write_bundle(tmp_path / "bundle", "onnx", {}, shapes_of("plain"), 0, precision=written)
    done = measure(folder, "--precision", asked)
    message = f"'--precision {asked}' is invalid. This folder has {written} for onnx. Write another one"
    assert done.returncode == 1 and message in done.stderr


@needs_onnx
def test_networks_and_convolutions_are_measured_in_int8(tmp_path, monkeypatch):
    """As ONNX Runtime runs them: its kernels for INT8, in a network and in the file of single convolutions."""
    import onnxruntime

    monkeypatch.syspath_prepend(str(BOARD))
    from onnx_file import convolutions_file

    def operators(model):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3  # of the warning that such a file belongs to this machine
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        import onnx

        return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]

    shapes = shapes_of()
    model = build_model("yolov8n")
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    folder = write_bundle(tmp_path / "bundle", "onnx", {"dense": model}, shapes, 32, precision="int8")
    assert operators(str(folder / "dense.onnx")).count("QLinearConv") == len(convs)
    whole = operators(convolutions_file([shape for group in shapes for shape in group], int8=True))
    assert whole.count("QLinearConv") == 8 and whole.count("ConvTranspose") == 2 and "Conv" not in whole
    done = measure(folder, "--anyway")
    assert done.returncode == 0, done.stderr
    answer = read_answer(folder / "answer.json")
    assert answer.precision == "int8" and answer.times.keys() == {shape.key for group in shapes for shape in group}


@pytest.mark.skipif("openvino" not in INSTALLED or not find_spec("nncf"), reason="needs OpenVINO and NNCF")
def test_networks_and_convolutions_are_measured_in_int8_in_openvino(tmp_path):
    shapes = shapes_of()
    folder = write_bundle(tmp_path / "b", "openvino", {"dense": build_model("yolov8n")}, shapes, 64, precision="int8")
    assert 'type="FakeQuantize"' in (folder / "dense.xml").read_text() and (folder / "dense.bin").is_file()
    done = measure(folder, "--anyway")
    assert done.returncode == 0, done.stderr
    answer = read_answer(folder / "answer.json")
    assert answer.precision == "int8" and answer.times.keys() == {shape.key for group in shapes for shape in group}


@pytest.mark.skipif("litert" not in INSTALLED or not find_spec("ai_edge_quantizer"), reason="needs LiteRT's quantiser")
def test_networks_and_convolutions_are_measured_in_int8_in_litert(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BOARD))
    import runtime_litert

    shapes = shapes_of()
    for shape in (shape for group in shapes for shape in group):
        interpreter = runtime_litert._interpreter(1, model_content=runtime_litert._model(shape, int8=True))
        kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
        assert np.int8 in kinds and np.float32 not in kinds
    folder = write_bundle(tmp_path / "b", "litert", {"dense": build_model("yolov8n")}, shapes, 64, precision="int8")
    assert (folder / "dense.tflite").stat().st_size < 5e6  # 12.6 MB in float
    done = measure(folder, "--anyway")
    assert done.returncode == 0, done.stderr
    answer = read_answer(folder / "answer.json")
    assert answer.precision == "int8" and answer.times.keys() == {shape.key for group in shapes for shape in group}


@pytest.mark.parametrize("runtime", INSTALLED)
def test_time_of_every_convolution_is_found(runtime, tmp_path):
    """One whose name a runtime has lost would take nothing, or its activation alone."""
    shapes = [[s._replace(height=40, width=40).resized(64, 64)] for _, s in shapes_of()]
    folder = write_bundle(tmp_path / "bundle", runtime, {}, shapes, 0)
    assert measure(folder, "--anyway").returncode == 0
    times = read_answer(folder / "answer.json").times
    assert min(times.values()) > max(times.values()) / 100
    transposed, point = (times[shapes[i][0].key] for i in (4, 1))
    assert transposed > point  # four times as many multiplications


@pytest.mark.skipif(not find_spec("onnx"), reason="needs ONNX")
@pytest.mark.parametrize("int8", [False, True])
def test_convolutions_are_written_as_a_valid_onnx_file(monkeypatch, int8):
    import onnx

    monkeypatch.syspath_prepend(str(BOARD))
    from onnx_file import convolutions_file

    model = onnx.load_from_string(convolutions_file([shape for group in shapes_of() for shape in group], int8=int8))
    onnx.checker.check_model(model, full_check=True)
    quantisers = {"QuantizeLinear", "DequantizeLinear"} if int8 else set()
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "ConvTranspose", "Relu", "Sigmoid", "Mul"} | quantisers


@pytest.mark.parametrize("runtime", [name for name in INSTALLED if name != "onnx"])
def test_a_runtime_elsewhere_is_a_row_like_any_other(runtime, tmp_path):
    """Its table is measured in one go, and reports leave it out unless the budget is its own."""
    model = build_model("yolov3-tiny", nc=2)
    some = next(iter(conv_shapes(model, 32).values()))
    table = LatencyTable(runtime, torch.device("cpu"), tmp_path)
    table.measure(some)
    assert LatencyTable(runtime, torch.device("cpu"), tmp_path).missing(some) == {}
    content = json.loads(table.file.read_text())
    assert (
        content["runtime"] == runtime and content["device"]["cores"] > 0 and runtime.lower() in str(table.file).lower()
    )
    assert not RUNTIMES[runtime].reported


@needs_onnx
def test_a_runner_makes_the_whole_trip(runner, tmp_path, log):
    bundle = write_bundle(tmp_path / "bundle", "onnx", {}, shapes_of("plain"), 0)
    assert ask_device(bundle, runner)["version"].startswith("onnxruntime-")
    answer = run_bundle(bundle, runner, ("--anyway",), fetched=tmp_path / "answer.json")
    assert len(answer.times) == 2 and not (bundle / "answer.json").exists()
    assert read_answer(tmp_path / "answer.json").times == answer.times
    assert "1/1 convolutions" in log.text and "Written: " in log.text
    assert run_bundle(bundle, runner, ("--anyway",)).times == answer.times  # the device has kept them
    greeting = tmp_path / "greeting"
    greeting.write_text(f'#!/bin/sh\necho "Welcome to the board"\n{runner} "$@"\nstatus=$?\necho Bye\nexit $status\n')
    greeting.chmod(0o755)
    assert run_bundle(bundle, str(greeting), ("--anyway",)).times == answer.times
    assert ask_device(bundle, str(greeting))["runtime"] == "onnx"


@needs_onnx
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-command pi@board", "'runner=no-such-command pi@board' cannot be started"),
        ("false", "'runner=false' failed with exit status 1: it said nothing"),
        ("sh -c 'echo no route to host >&2; exit 255'", "exit status 255: no route to host"),
    ],
)
def test_a_device_that_does_not_answer_is_named(command, message, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "onnx", {}, shapes_of("plain"), 0)
    with pytest.raises(RunnerError, match=message):
        run_bundle(bundle, command)


PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xd0b\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
}
EPYCS = [f"model name : AMD EPYC\ncpu family : {f}\nmodel : {m}\nstepping : 1\n" for f, m in ((25, 1), (26, 2))]


def test_boards_and_processors_of_one_brand_are_told_apart(tmp_path):
    for name, text in PI.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = board_device.describe_device(f"{tmp_path}/")
    assert found["name"] == found["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found["part"], found["clock_mhz"], found["governor"]) == ("implementer 0x41 part 0xd0b", 2400, "ondemand")
    assert board_device.device_slug(found).startswith("Raspberry_Pi_5_Model_B_Rev_1.0-implementer_0x41_part_0xd0b-")
    (tmp_path / "proc/device-tree/model").unlink()
    names = set()
    for text in EPYCS:
        (tmp_path / "proc/cpuinfo").write_text(text)
        names.add(board_device.device_slug(board_device.describe_device(f"{tmp_path}/")))
    assert len(names) == 2 and all(name.startswith("AMD_EPYC-family_2") for name in names)


GOOD = {
    "schema": SCHEMA,
    "complete": True,
    "runtime": "ncnn",
    "version": "ncnn-1.0",
    "precision": "fp32",
    "threads": 4,
    "imgsz": 64,
    "device": {"name": "Raspberry Pi 5"},
    "networks": {"dense": {"low": 1.0, "median": 1.1, "high": 1.2}},
    "convolutions": {"conv": [0.1, 0.2]},
    "predicted": {"dense": 1.0},
}
DAMAGED = {
    "not JSON": (b"{", "cannot be read"),
    "not text": (b"\xff\xfe{", "cannot be read"),
    "a list": ([1], "has no 'schema'"),
    "a plain table": ({"conv": 1.0}, "has no 'schema'"),
    "a newer one": ({**GOOD, "schema": 9}, "has schema 9, and 1 is known"),
    "without a field": ({k: v for k, v in GOOD.items() if k != "threads"}, "'threads' is None"),
    "a bool for a number": ({**GOOD, "threads": True}, "'threads' is True"),
    "one time": ({**GOOD, "convolutions": {"conv": [0.1]}}, r"'conv' takes \[0.1\] ms"),
    "a negative time": ({**GOOD, "convolutions": {"conv": [-0.1, 0.1]}}, "'conv' takes"),
    "not a number": ({**GOOD, "convolutions": {"conv": [float("nan"), 0.1]}}, "'conv' takes"),
    "a network without times": ({**GOOD, "networks": {"dense": {"low": 1.0}}}, "network 'dense' takes"),
    "a wrong prediction": ({**GOOD, "predicted": {"dense": "1"}}, "'dense' is predicted to take '1' ms"),
    "a runtime that is not known": ({**GOOD, "runtime": "foo"}, "is of runtime=foo in fp32"),
    "a precision that it has not": ({**GOOD, "precision": "int4"}, "is of runtime=ncnn in int4"),
    "stopped": ({**GOOD, "complete": False}, "is incomplete"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_answer_is_refused(kind, tmp_path):
    content, message = DAMAGED[kind]
    file = tmp_path / "answer.json"
    file.write_bytes(content) if isinstance(content, bytes) else write_json(file, content)
    with pytest.raises(
        ValueError, match=rf"'budget=.*answer.json' .*{message}.*(measure\.py again|Update this package)"
    ):
        read_answer(file)


def test_a_good_answer_is_read(tmp_path):
    write_json(tmp_path / "answer.json", GOOD)
    assert read_answer(tmp_path / "answer.json").place == "ncnn-1.0 on Raspberry Pi 5, fp32, 4 threads"
    with pytest.raises(FileNotFoundError, match="'budget=.*other.json' does not exist. Give the answer.json"):
        read_answer(tmp_path / "other.json")


def test_an_answer_says_what_was_disturbed(tmp_path):
    disturbed = {"dense": {**GOOD["networks"]["dense"], "interrupted": True}}
    for content, interrupted, noisy in (
        (GOOD, False, ()),
        ({**GOOD, "networks": disturbed, "noisy": ["a"]}, True, ("a",)),
    ):
        write_json(tmp_path / "answer.json", content)
        answer = read_answer(tmp_path / "answer.json")
        assert answer.networks["dense"].interrupted == interrupted and answer.noisy == noisy


@needs_onnx
def test_convolutions_of_other_conditions_are_not_mixed_with_networks_of_these(tmp_path):
    folder = write_bundle(tmp_path / "bundle", "onnx", {}, shapes_of("plain"), 0, measured_as={"threads": 7})
    done = measure(folder, "--anyway")
    assert done.returncode == 1 and "were measured with threads 7, and now it is 1: their times do not" in done.stderr


@needs_onnx
def test_a_bundle_may_leave_the_threads_to_the_device(tmp_path):
    folder = write_bundle(tmp_path / "bundle", "onnx", {}, shapes_of("plain"), 0, threads=0)
    assert ask_device(folder, "")["threads"] == os.cpu_count()


TRTEXEC = """#!{python}
import json, sys
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
if "help" in options:
    print("&&&& RUNNING TensorRT.trtexec [TensorRT v101300]")
if "saveEngine" in options:
    assert "fp16" in options and "buildOnly" in options
    open(options["saveEngine"], "w").write("engine")
if "exportTimes" in options:
    assert "useCudaGraph" in options
    json.dump([{{"computeMs": ms}} for ms in (1.5, 1.6, 9.0)], open(options["exportTimes"], "w"))
if "exportProfile" in options:
    names = ["Reformatting CopyNode for Input Tensor 0 to time0_conv"]
    names += ["time0_conv + PWN(PWN(time0_gate), time0_act)", "time1_conv", "PWN(time1_gate, time1_act)"]
    rows = [{{"count": 30}}, *({{"name": name, "medianMs": 0.25}} for name in names)]
    json.dump(rows, open(options["exportProfile"], "w"))
"""


@needs_onnx
def test_a_bundle_for_tensorrt_goes_by_trtexec(tmp_path, monkeypatch):
    """A stand-in for the command writes what TensorRT's documentation says that it writes; no GPU is here."""
    folder = write_bundle(
        tmp_path / "bundle", "tensorrt", {"dense": build_model("yolov8n")}, shapes_of("plain"), 32, precision="fp16"
    )
    done = measure(folder)
    assert done.returncode == 1 and "trtexec is not installed" in done.stderr
    command = tmp_path / "bin" / "trtexec"
    command.parent.mkdir()
    command.write_text(TRTEXEC.format(python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    done = measure(folder)
    assert done.returncode == 0, done.stderr
    answer = read_answer(folder / "answer.json")
    assert answer.version == "tensorrt-101300" and answer.networks["dense"].median == 1.6
    assert [*answer.times.values()] == [0.25, 0.5]
    write_bundle(folder, "tensorrt", {"dense": build_model("yolov3-tiny")}, [], 32, precision="fp16")  # over the first
    assert measure(folder).returncode == 0
    assert len([*folder.glob("dense.fp16.*.engine")]) == 2 and not [*folder.glob("*.tmp")]
