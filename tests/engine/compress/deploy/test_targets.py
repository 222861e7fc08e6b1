# SPDX-License-Identifier: AGPL-3.0-or-later
"""What 'deploy' takes, and what it refuses before any work."""

import pytest
import torch

from ultralytics.cfg.compress.compat.quantization import HAS_PRECISIONS

if not HAS_PRECISIONS:
    pytest.skip("this Ultralytics exports without 'quantize'", allow_module_level=True)

from ultralytics.engine.compress.deploy import formats
from ultralytics.engine.compress.deploy.targets import Target, check_targets, read_targets, with_float
from ultralytics.engine.exporter import export_formats

CPU = torch.device("cpu")


@pytest.mark.parametrize("deploy", ["onnx,openvino-int8", "[onnx, openvino-int8]", ["onnx", "openvino-int8"]])
def test_formats_with_a_precision_are_read_from_text_and_lists(deploy):
    assert read_targets(deploy) == [Target("onnx"), Target("openvino", 8)]


def test_arguments_of_the_export_follow_the_format():
    (target,) = read_targets("onnx-fp16:opset=17:dynamic=True")
    assert target == Target("onnx", 16, {"opset": 17, "dynamic": True})
    assert target.name == "onnx-fp16-opset=17-dynamic=True"


def test_each_target_is_there_once():
    assert read_targets(["litert", "litert-w8a32", "litert"]) == [Target("litert"), Target("litert", "w8a32")]


def test_a_quantised_target_brings_its_float_twin_along():
    names = [target.name for target in with_float(read_targets("openvino-int8,onnx,onnx-int8"))]
    assert names == ["openvino", "openvino-int8", "onnx", "onnx-int8"]


def test_a_format_that_has_no_float_file_is_quantised_as_ultralytics_would():
    assert with_float(read_targets("edgetpu,qnn")) == [Target("edgetpu", 8), Target("qnn", "w8a16")]
    assert all(target.is_int8 for target in read_targets("edgetpu,qnn"))  # from the run's own pictures


@pytest.mark.parametrize(
    "deploy, sentence",
    [
        ("torchscript-fp16", "format=torchscript has no precision 'fp16'. Valid precisions of it are none but that"),
        ("tflight", "'tflight' is no format. Valid formats are torchscript, onnx,"),
        ("ncnn-int8", "format=ncnn has no precision 'int8'. Valid precisions of it are fp16"),
        ("litert:opset=12", "'opset=12' is no argument of format=litert. Valid arguments of it are none"),
        ("onnx:quantize=8", "'quantize=8' is no argument of format=onnx. Valid arguments of it are dynamic, opset,"),
        ([], r"'deploy=\[\]' is an invalid value. 'deploy' must name a format"),
    ],
)
def test_what_is_no_export_of_ultralytics_is_refused(deploy, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_targets(deploy, CPU)


def test_a_package_that_is_missing_is_named_with_the_command(monkeypatch):
    needs = formats.Needs(("torch>=2.0", "no-such-package>=1.0"), ("no-such-quantiser",))
    monkeypatch.setitem(formats.NEEDS, "openvino", needs)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'no-such-package>=1.0'$"):
        check_targets("openvino", CPU)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'no-such-package>=1.0' 'no-such-quantiser'$"):
        check_targets("openvino-int8", CPU)


def test_packages_that_several_formats_lack_are_named_at_once(monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "openvino", formats.Needs(("no-such-package>=1.0",), ("no-such-quantiser",)))
    monkeypatch.setitem(formats.NEEDS, "ncnn", formats.Needs(("no-such-package>=1.0", "another-one")))
    monkeypatch.setitem(formats.NEEDS, "onnx", formats.Needs())
    command = r"'deploy=openvino-int8,ncnn' needs .* 'no-such-package>=1.0' 'no-such-quantiser' 'another-one'$"
    with pytest.raises(ModuleNotFoundError, match=command):
        check_targets("onnx,openvino-int8,ncnn", CPU)


def test_a_gpu_s_format_is_refused_on_the_cpu(monkeypatch):
    monkeypatch.setitem(formats.NEEDS, "engine", formats.Needs())
    with pytest.raises(ValueError, match="files of format=engine run on a GPU alone"):
        check_targets("engine", CPU)


def test_every_format_that_is_described_is_one_of_ultralytics():
    assert formats.NEEDS.keys() <= {*export_formats()["Argument"]}
