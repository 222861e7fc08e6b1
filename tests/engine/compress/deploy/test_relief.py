# SPDX-License-Identifier: AGPL-3.0-or-later
"""Layers of an INT8 file that stay in float: measured, and left so by the quantiser of each runtime."""

from pathlib import Path

import pytest

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.quantization import HAS_PRECISIONS

if not HAS_PRECISIONS:
    pytest.skip("this Ultralytics exports without 'quantize'", allow_module_level=True)

from ultralytics.engine.compress.deploy import relief as relief_module
from ultralytics.engine.compress.deploy.formats import missing_packages
from ultralytics.engine.compress.deploy.quantisers import QUANTISERS
from ultralytics.engine.compress.deploy.relief import Relief
from ultralytics.engine.exporter import Exporter

LAYERS = [*"abcdefgh"]


@pytest.fixture
def pieces(monkeypatch):
    monkeypatch.setattr(relief_module, "PIECES", 4)


@pytest.fixture
def tried():
    """Layers in float of every file that was measured, and a `Relief` that likes 'e' and, less, 'c' in float."""
    made = []

    def measure(file):
        made.append(file.read_text())
        return 0.5 + 0.2 * ("e" in made[-1]) + 0.1 * ("c" in made[-1])

    return made, Relief(measure)


def write(in_float, folder):
    file = folder / "file"
    file.write_text("".join(in_float))
    return file


def test_the_layers_stay_in_float_that_leave_most_of_the_metric(pieces, tried):
    made, relief = tried
    relief.share = 0.25
    assert relief.choose(LAYERS, write) == ["e", "f"]
    relief.share = 0.5
    assert relief.choose(LAYERS, write) == ["e", "f", "c", "d"]
    assert made == ["ab", "cd", "ef", "gh"]


def test_nothing_is_measured_if_none_stays_in_float(tried):
    made, relief = tried
    assert relief.choose(LAYERS, write) == []
    assert made == []


def test_fewer_layers_than_pieces_are_tried_one_by_one(tried):
    made, relief = tried
    relief.share = 0.1
    assert relief.choose(["c", "e"], write) == ["e"]
    assert made == ["c", "e"]


def float_layers_of_onnx(file):
    import onnx

    nodes = onnx.load(file).graph.node
    dequantised = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return [n.name for n in nodes if n.op_type == "Conv" and n.input[0] not in dequantised]


def float_layers_of_openvino(folder):
    import openvino as ov

    operations = ov.Core().read_model(next(folder.glob("*.xml"))).get_ordered_ops()
    convolutions = [op for op in operations if op.get_type_name() == "Convolution"]
    return [
        op.get_friendly_name() for op in convolutions if op.input_value(0).get_node().get_type_name() != "FakeQuantize"
    ]


def float_layers_of_litert(file):
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope, read_model

    graph = read_model(str(file)).subgraphs[0]
    in_float = [op for op in graph.operators if graph.tensors[op.outputs[0]].type == 0]  # FLOAT32
    return [scope for op in in_float if not (scope := get_op_scope(op, graph.tensors)).endswith("dequant;")]


@pytest.mark.parametrize(
    "form, float_layers",
    [
        ("onnx", float_layers_of_onnx),
        ("openvino", float_layers_of_openvino),
        pytest.param("litert", float_layers_of_litert, marks=pytest.mark.slow),
    ],
)
def test_the_runtime_s_own_quantiser_leaves_them_in_float(form, float_layers, best_pt, tiny_data, tmp_path, pieces):
    if missing := missing_packages(form, int8=True):
        pytest.skip(f"not installed: {', '.join(missing)}")
    settings = {"format": form, "quantize": 8, "imgsz": 32, "batch": 1, "data": tiny_data, "split": "train"}
    files = {}
    for share in (0.0, 0.5):
        model = YOLO(best_pt).model
        model.pt_path = str(tmp_path / f"{share}" / "model.pt")
        Path(model.pt_path).parent.mkdir()
        judged = []

        def measure(file, judged=judged):
            judged.append(YOLO(file, task="detect").val(data=tiny_data, imgsz=32, batch=1, plots=False, workers=0))
            return len(judged)  # the layers of the last files gain most

        relief = Relief(measure)
        relief.share = share
        files[share] = QUANTISERS[form](Exporter(overrides=settings), model, relief)
        assert len(judged) == (4 if share else 0)
    few, many = (float_layers(files[share]) for share in (0.0, 0.5))
    assert {*few} < {*many}
    assert YOLO(files[0.5], task="detect").predict(
        source=str(next(Path(tiny_data).parent.glob("images/val/*"))), imgsz=32
    )
