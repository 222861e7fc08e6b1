# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints are ordinary Ultralytics checkpoints, and are trained as they are."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import build_model, kept_weights, needs

from ultralytics import ASSETS, YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.export import traced_export
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.architecture import keep_architecture
from ultralytics.engine.pruning.checkpoint.marks import has_pruned_yaml, is_pruned
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.files import sha256, written_whole
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import raw_outputs
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel, torch_safe_load
from ultralytics.utils import DEFAULT_CFG_DICT

REMAP = {"cls_remap": True} if "cls_remap" in DEFAULT_CFG_DICT else {}  # without it new classes begin anew


@pytest.fixture(scope="module")
def prune_pt(tmp_path_factory):
    """A pruned checkpoint whose dense source lies beside it."""
    folder = tmp_path_factory.mktemp("weights")
    model = build_model("yolov8n", nc=2)
    model.args, model.task, model.names = dict(DEFAULT_CFG_DICT), "detect", {0: "blue", 1: "yellow"}
    torch.save({"model": deepcopy(model).half(), "train_args": {}}, folder / "dense.pt")
    model, _ = load_checkpoint(folder / "dense.pt")
    pruned, record = prune_model(model, Budget(2), prune_method="lamp")
    args = {**DEFAULT_CFG_DICT, "imgsz": 64, "foreign": 1}
    save_pruned(folder / "prune.pt", pruned, replace(record, run=str(folder)), args)
    return folder / "prune.pt"


def plain(value) -> bool:
    """Return True for a value of built-in types all the way down."""
    if isinstance(value, dict):
        return all(isinstance(k, (str, int)) and plain(v) for k, v in value.items())
    return all(map(plain, value)) if isinstance(value, list) else type(value) in {str, int, float, bool, type(None)}


def test_a_safe_load_is_stock_ultralytics_own(prune_pt):
    checkpoint, _ = torch_safe_load(prune_pt, safe_only=True)
    assert checkpoint["model"].pruning["prune_method"] == "lamp" and checkpoint["epoch"] == -1


@needs("models in what it loads with safe_only")
def test_loads_under_safe_load(prune_pt):
    checkpoint, _ = torch_safe_load(prune_pt, safe_only=True)
    assert type(checkpoint["model"]) is DetectionModel
    assert checkpoint["epoch"] == -1 and "foreign" not in checkpoint["train_args"]
    assert next(checkpoint["model"].parameters()).dtype == torch.float16


def test_record_is_plain_and_complete(prune_pt):
    model, _ = load_checkpoint(prune_pt)
    record = model.pruning
    assert plain(record)
    assert (record["prune_method"], record["target"]) == ("lamp", 2)
    assert record["reached"] == pytest.approx(2, rel=0.03)
    assert record["source"]["sha256"] == sha256(prune_pt.with_name("dense.pt"))
    dense, _ = load_checkpoint(prune_pt.with_name("dense.pt"))
    before, after = dict(dense.named_modules()), dict(model.named_modules())
    for name, kept in record["channels"].items():
        assert torch.equal(after[name].weight, kept_weights(before[name], kept)), name


def test_stock_ultralytics_cannot_grow_it_back(prune_pt):
    """Without us, training builds the model from its YAML: that must fail, and say why."""
    model, _ = load_checkpoint(prune_pt)
    assert has_pruned_yaml(model.yaml) and not has_pruned_yaml(model.pruning["yaml"])
    with pytest.raises(KeyError, match="this model is pruned: install ultralytics-compress"):
        DetectionModel(model.yaml, nc=2, verbose=False)


@pytest.mark.parametrize("names", [{0: "blue", 1: "yellow"}, {0: "red", 1: "yellow", 2: "blue"}, {0: "green"}])
def test_architecture_is_kept_for_any_classes(prune_pt, names):
    weights, _ = load_checkpoint(prune_pt)
    data = {"nc": len(names), "names": names, "channels": 3}
    model = keep_architecture(weights, data, SimpleNamespace(**REMAP))
    widths = [m.out_channels for n, m in weights.named_modules() if isinstance(m, torch.nn.Conv2d) and "cv3" not in n]
    assert [
        m.out_channels for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and "cv3" not in n
    ] == widths
    head = model.model[-1]
    assert (head.nc, head.no) == (len(names), len(names) + 64)
    assert model.names == names or not REMAP
    raw = raw_outputs(model, torch.rand(1, 3, 64, 64))
    predicted = raw["scores"].shape[1] if "scores" in raw else raw["0"].shape[1] - 64  # behind the box, in older ones
    assert predicted == len(names)
    for i, name in names.items():  # the rows of known classes are taken over
        for old, new in zip(weights.model[-1].cv3, head.cv3):
            if REMAP and name in weights.names.values():
                assert torch.equal(new[-1].weight[i], old[-1].weight[list(weights.names.values()).index(name)])
    assert all(p.requires_grad for p in model.parameters())


def test_architecture_of_an_rtdetr_is_kept_for_other_classes():
    """Its trainer gets the pruned network with new scores and new embeddings of the classes, and known rows in them."""
    pruned, record = prune_model(build_model("yolov8n-rtdetr"), Budget(1.2), prune_method="lamp")
    pruned.names, pruned.pruning = dict(enumerate("abcd")), record.to_dict()
    data = {"nc": 2, "names": {0: "d", 1: "new"}, "channels": 3}
    trainer = SimpleNamespace(data=data, args=SimpleNamespace(**REMAP))
    model = RTDETRTrainer.get_model(trainer, weights=pruned)
    before, after = pruned.state_dict(), model.state_dict()
    resized = {name for name in before if after[name].shape != before[name].shape}
    layers = {name.removeprefix(f"model.{model.model[-1].i}.").split(".")[0] for name in resized}
    assert layers == {"enc_score_head", "dec_score_head", "denoising_class_embed"}
    assert all(after[name].shape == (2, *before[name].shape[1:]) for name in resized)
    remaps = "_remap_cls_by_names" in vars(RTDETRDetectionModel)  # of a head that is not YOLO's, which came later
    assert not remaps or all(torch.equal(after[name][0], before[name][3]) for name in resized)
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 160, 160))[0].shape[-1] == 4 + 2


def test_other_image_channels_are_refused(prune_pt):
    weights, _ = load_checkpoint(prune_pt)
    with pytest.raises(ValueError, match="channels=1 and the pruned model channels=3"):
        keep_architecture(weights, {"nc": 2, "names": weights.names, "channels": 1}, SimpleNamespace(**REMAP))


@pytest.mark.parametrize("validate_first", [False, True])
def test_train_keeps_it(prune_pt, tiny_data, tmp_path, validate_first):
    model = YOLO(prune_pt)
    parameters = sum(p.numel() for p in load_checkpoint(prune_pt)[0].parameters())
    if validate_first:  # this fuses the model that the object holds
        model.val(data=tiny_data, imgsz=32, plots=False, project=str(tmp_path), workers=0)
    model.train(data=tiny_data, imgsz=32, epochs=1, batch=4, plots=False, project=str(tmp_path), device="cpu")
    assert sum(p.numel() for p in model.model.parameters()) == parameters
    assert is_pruned(model.model)


@needs("'pretrained=False' for a model that was loaded")
def test_train_without_pretrained_weights_is_refused(prune_pt, tiny_data, tmp_path):
    with pytest.raises(ValueError, match="'pretrained=False' is invalid with a pruned model"):
        YOLO(prune_pt).train(data=tiny_data, pretrained=False, imgsz=32, epochs=1, project=str(tmp_path), device="cpu")


def test_resumed_training_keeps_it(prune_pt, tiny_data, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    settings = {"imgsz": 32, "epochs": 3, "batch": 4, "plots": False, "project": str(tmp_path), "device": "cpu"}
    model = YOLO(prune_pt)
    model.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        model.train(data=tiny_data, name="run", **settings)
    trainer = DetectionTrainer(overrides={"resume": str(tmp_path / "run" / "weights" / "last.pt")})
    trainer.train()
    assert trainer.start_epoch == 1
    resumed, _ = load_checkpoint(tmp_path / "run" / "weights" / "last.pt")
    assert sum(p.numel() for p in resumed.parameters()) == sum(
        p.numel() for p in load_checkpoint(prune_pt)[0].parameters()
    )


def test_onnx_export_equals_pytorch(prune_pt):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    pytest.importorskip("onnxslim", reason="needs the extra 'export'")
    with traced_export():
        file = YOLO(prune_pt).export(format="onnx", imgsz=64, device="cpu")
    image = torch.rand(1, 3, 64, 64)
    (output,) = onnxruntime.InferenceSession(file).run(None, {"images": image.numpy()})
    with torch.no_grad():
        expected = load_checkpoint(prune_pt)[0](image)[0].numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_predict(prune_pt):
    result = YOLO(prune_pt).predict(ASSETS / "bus.jpg", imgsz=64, conf=1e-4, verbose=False, device="cpu")[0]
    assert len(result.boxes) > 0 and result.names == {0: "blue", 1: "yellow"}


def test_interrupted_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(RuntimeError), written_whole(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
