"""Conditions of timing: those of inference, whatever a training has set, on the device that is timed."""

import platform
from importlib.util import find_spec

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.cfg.compress.compat.devices import CHOOSES_LAYOUT, unset_deterministic
from ultralytics.engine.pruning.latency import onnx_runtime
from ultralytics.engine.pruning.latency.blocks import block_latency
from ultralytics.engine.pruning.latency.inference import inference_settings, memory_format, synchronized_time
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_latency
from ultralytics.engine.pruning.latency.pytorch import pytorch_convolutions, pytorch_latency
from ultralytics.engine.pruning.latency.shapes import conv_shapes
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import LINUX, LOGGER, WINDOWS
from ultralytics.utils.torch_utils import init_seeds

CPU = torch.device("cpu")


def settings():
    """Return whether deterministic algorithms are on, for torch and cuDNN, and cuDNN's benchmark."""
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def training(monkeypatch):
    """The settings of a trainer, and of a prediction on a stream before it."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    init_seeds(0, deterministic=True)
    yield
    assert settings() == (True, True, True) and torch.is_deterministic_algorithms_warn_only_enabled()
    unset_deterministic()


@pytest.fixture
def forwards():
    """Settings and layout of the weights of every convolution's call."""
    seen = []

    def note(module, *_):
        if isinstance(module, nn.Conv2d) and module.in_channels > 3 and module.groups == 1:
            seen.append((settings(), module.weight.is_contiguous(memory_format=memory_format(CPU))))

    handle = nn.modules.module.register_module_forward_hook(note)
    yield seen
    handle.remove()


@pytest.mark.parametrize("kind", ["whole", "blocks", "convolutions"])
def test_timing_runs_as_inference_does(training, forwards, kind):
    model = build_model("yolov8n")
    shapes = [shape for calls in conv_shapes(model, 32).values() for shape in calls][:4]
    forwards.clear()
    time = {
        "whole": lambda: pytorch_latency({"dense": model}, 32, CPU),
        "blocks": lambda: block_latency({"dense": model}, 32, CPU),
        "convolutions": lambda: pytorch_convolutions(shapes, CPU),
    }
    time[kind]()
    assert forwards and set(forwards) == {((False, False, False), True)}


def test_settings_are_restored_after_an_error(training):
    with pytest.raises(RuntimeError, match="stopped"), inference_settings():
        assert settings() == (False, False, False)
        raise RuntimeError("stopped")


def test_memory_format_is_that_of_ultralytics_inference():
    backend = AutoBackend(build_model("yolov8n"), device=CPU, verbose=False)
    layers = getattr(backend, "backend", backend).model.modules()
    weights = [m.weight for m in layers if isinstance(m, nn.Conv2d) and m.in_channels > 1 and max(m.kernel_size) > 1]
    is_x86 = platform.machine() in {"AMD64", "x86_64"} and (LINUX or WINDOWS)
    assert memory_format(CPU) == (torch.channels_last if is_x86 and CHOOSES_LAYOUT else torch.contiguous_format)
    assert all(w.is_contiguous(memory_format=memory_format(CPU)) for w in weights)
    assert memory_format(torch.device("cuda")) == memory_format(torch.device("mps")) == torch.contiguous_format


def test_the_timed_device_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    times = [synchronized_time(torch.device(name)) for name in ("cpu", "cuda:1", "mps")]
    assert waited == [torch.device("cuda:1"), "mps"] and times == sorted(times)


@pytest.mark.skipif(not (find_spec("onnxruntime") and find_spec("onnx")), reason="needs ONNX Runtime")
def test_the_log_is_silent_about_files_that_are_deleted_at_once(monkeypatch, log):
    exporter = onnx_runtime.Exporter

    def warning_exporter(**keys):
        LOGGER.warning("something is wrong")
        return exporter(**keys)

    monkeypatch.setattr(onnx_runtime, "Exporter", warning_exporter)
    model, level = build_model("yolov8n"), LOGGER.level
    log.clear()
    onnx_latency({"dense": model}, 32)
    (message,) = log.messages
    assert "something is wrong" in message and LOGGER.level == level


@pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime")
def test_a_file_that_takes_any_image_is_run_on_one(tmp_path):
    import onnx
    from onnx import helper

    image, result = (helper.make_tensor_value_info(n, 1, ["batch", 3, "height", "width"]) for n in ("images", "output"))
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["output"])], "any", [image], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "any.onnx")
    session, feed = onnx_runtime.open_session(str(tmp_path / "any.onnx"), 1, shape=(1, 3, 32, 64))
    assert session.run(None, feed)[0].shape == (1, 3, 32, 64)
