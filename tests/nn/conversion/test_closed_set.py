# SPDX-License-Identifier: AGPL-3.0-or-later
"""YOLOE with its classes set becomes the YOLO detector or segmenter that computes the same."""

from copy import deepcopy

import pytest
import torch
from conftest import also_slow, load_architecture

from ultralytics.cfg.compress.compat.modules import Segment26, YOLOEModel, YOLOESegModel
from ultralytics.engine.pruning.graph.outputs import flatten
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.nn.modules.head import Detect, Segment
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
NAMES = ["red", "green", "blue"]
CLOSED = {  # YAML: class of the open model, of the closed one, of its head
    "yoloe-v8s": (YOLOEModel, DetectionModel, Detect),
    "yoloe-26n": (YOLOEModel, DetectionModel, Detect),
    "yoloe-11n-seg": (YOLOESegModel, SegmentationModel, Segment),
    "yoloe-26n-seg": (YOLOESegModel, SegmentationModel, Segment26),
}


def open_model(name, kind):
    """Return a YOLOE of three classes by random embeddings, whose length is not 1."""
    torch.manual_seed(0)
    load_architecture(f"{name}.yaml")
    model = kind(f"{name}.yaml", nc=80, verbose=False)
    model.set_classes(NAMES, 3 * torch.randn(1, len(NAMES), 512))
    enliven(model, model.predict)
    for contrast in (*model.model[-1].cv4, *(getattr(model.model[-1], "one2one_cv4", None) or ())):
        contrast.bias.data.fill_(-1.5)
        contrast.logit_scale.data.fill_(-0.5)
    return model


def outputs(model, image=IMAGE):
    with torch.no_grad():
        return flatten(model(image))


@pytest.mark.parametrize("name", also_slow(["yoloe-26n", "yoloe-11n-seg", "yoloe-26n-seg"], ["yoloe-v8s"]))
def test_closed_model_computes_the_same(name):
    kind, closed_kind, head = CLOSED[name]
    model = open_model(name, kind)
    expected = outputs(model)
    closed, note = stock_form(model)
    assert "red, green, blue" in note and head.__name__ in note
    assert type(closed) is closed_kind and type(closed.model[-1]) is head
    assert closed.names == dict(enumerate(NAMES))
    actual = outputs(closed)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))
    torch.testing.assert_close(outputs(model), expected, rtol=0, atol=0)  # which is left as it was


@pytest.mark.parametrize("name", ["yoloe-26n-seg"])
def test_closed_model_is_that_of_its_yaml(name):
    """But for the width of the class branches of the smallest models, which grows with the classes in the YAML."""
    closed, _ = stock_form(open_model(name, CLOSED[name][0]))
    rebuilt = type(closed)(deepcopy(closed.yaml), verbose=False)
    assert [*rebuilt.state_dict()] == [*closed.state_dict()]
    assert [type(m) for m in rebuilt.modules()] == [type(m) for m in closed.modules()]
    assert vars(rebuilt).keys() - {"task"} == vars(closed).keys() - {"task"}
    own = {"anchors", "shape", "strides"}  # of a head that has run
    assert vars(rebuilt.model[-1]).keys() - own == vars(closed.model[-1]).keys() - own


def test_fused_head_is_closed_as_well():
    """So Ultralytics trains a YOLOE whose classes are known from the start (YOLOEPETrainer)."""
    model = open_model("yoloe-26n", YOLOEModel)
    expected = outputs(model)
    model.model[-1].fuse(torch.nn.functional.normalize(model.pe, dim=-1))
    closed, _ = stock_form(model)
    actual = outputs(closed)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_model_without_classes_is_refused():
    with pytest.raises(ValueError, match=r"YOLOEDetect without classes. Set them and save the model: .*set_classes"):
        load_architecture("yoloe-26n.yaml")
        stock_form(YOLOEModel("yoloe-26n.yaml", verbose=False).eval())


def test_prompt_free_model_is_refused():
    model = open_model("yoloe-26n", YOLOEModel)
    model.model[-1].lrpc = torch.nn.ModuleList()
    with pytest.raises(ValueError, match="prompt-free YOLOEDetect.*set_classes"):
        stock_form(model)
