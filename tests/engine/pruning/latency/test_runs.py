# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs count during which the process had the CPU, and networks of half the FLOPs go with a bundle."""

import importlib.util
import json
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
