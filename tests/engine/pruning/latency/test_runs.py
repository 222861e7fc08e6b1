# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs count during which the process had the CPU, and networks of half the FLOPs go with a bundle."""

import importlib.util
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from ultralytics.engine.compress.device import make_bundle
from ultralytics.engine.pruning.latency.bundle import BOARD, HALVES, write_bundle
from ultralytics.engine.pruning.latency.runner import run_bundle
from ultralytics.engine.pruning.latency.shapes import ConvShape

COUNT = 13


@pytest.fixture
def runs(monkeypatch):
    """Return a function that makes `Runs` during some of which the kernel takes the CPU away."""
    spec = importlib.util.spec_from_file_location("runs", BOARD / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def made(*disturbed):
        answers = iter([count for i in range(COUNT) for count in (0, int(i in disturbed))])
        monkeypatch.setattr(module, "switches", lambda: next(answers))
        return module.Runs(module.CLOCKS["wall"])

    return made


def test_disturbed_runs_count_only_if_there_are_no_others(runs):
    times = [[9.0] * 3 + [1.0, 5.0, 3.0, 2.0] + [4.0] * 6]
    some = runs(3, 6)  # the fastest was no real run, for example of a clock that stood still
    list(some)
    assert some.low_and_median(times).tolist() == [[3.0, 4.0]]
    every = runs(*range(COUNT))
    list(every)
    assert every.low_and_median(times).tolist() == [[1.0, 4.0]]


def test_convolutions_one_by_one_or_all_at_once(runs):
    together = runs(3)
    list(together)
    times = [[9.0] * 3 + [1.0] + [2.0] * 9, [9.0] * 3 + [3.0] + [4.0] * 9]
    assert together.low_and_median(times).tolist() == [[2.0, 2.0], [4.0, 4.0]]
    never = runs()  # trtexec repeats by itself
    assert never.low_and_median(times).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime")
def test_convolutions_that_are_interrupted_in_every_run_are_timed_in_halves(tmp_path):
    """Runtimes profile eight in one run by the wall's clock: beside other work one of 1.2 ms was told to take 3.2."""
    shapes = [ConvShape(4, 8, (1, 1), (1, 1), (0, 0), (1, 1), False, False, "", s, s) for s in (10, 11, 12, 13)]
    bundle = write_bundle(tmp_path / "bundle", "onnx", {}, [shapes], 0)
    for name, old, new in (
        ("runs.py", "return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw", "return time.perf_counter()"),
        (
            "runtime_onnx.py",
            "    with tempfile",
            "    open('groups.txt', 'a').write(f'{len(shapes)} ')\n    with tempfile",
        ),
    ):
        source = (bundle / name).read_text()
        assert source.count(old) == 1
        (bundle / name).write_text(source.replace(old, new))
    subprocess.run([sys.executable, "measure.py", "--anyway"], cwd=bundle, check=True)
    groups = (bundle / "groups.txt").read_text().split()
    assert groups[:3] == ["4", "2", "1"] and groups.count("2") == 2 and groups.count("1") >= 4  # others are repeated
    assert len(json.loads((bundle / "answer.json").read_text())["convolutions"]) == 4


@pytest.mark.skipif(not find_spec("openvino"), reason="needs OpenVINO")
def test_what_openvino_copies_for_the_caller_is_no_convolution(tmp_path):
    """The result of a first layer goes back to the caller's layout, which takes longer than to compute it."""
    shape = ConvShape(3, 16, (3, 3), (2, 2), (1, 1), (1, 1), False, False, "SiLU", 320, 320)
    bundle = write_bundle(tmp_path / "bundle", "openvino", {}, [[shape]], 0)
    (ms,) = run_bundle(bundle, "").times.values()
    source = (bundle / "runtime_openvino.py").read_text()
    (bundle / "runtime_openvino.py").write_text(source.replace(' and event.node_type != "Reorder"', ""))
    (bundle / "answer.json").unlink()
    (with_copies,) = run_bundle(bundle, "").times.values()
    assert with_copies > 1.3 * ms


@pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime")
def test_a_bundle_has_networks_of_half_the_flops(shallow_pt, tmp_path):
    folder = make_bundle(shallow_pt, "onnx", 32, project=tmp_path)
    content = json.loads((folder / "bundle.json").read_text())
    named = [name for name in HALVES if name in content["networks"]]
    assert content["networks"].keys() == {"dense", *named} and content["widths"].keys() == {*named} and named
    answer = run_bundle(folder, "", ("--anyway", "--clock", "cpu"))
    assert answer.networks.keys() == {"dense", *named} and answer.widths == content["widths"]
    assert json.loads((folder / "answer.json").read_text())["clock"] == "cpu"
