# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints that are converted when they are read: whole runs, and what is refused."""

from pathlib import Path

import pytest
import torch
from conftest import FAST

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.cfg.compress.compat.modules import AAttn, YOLOEModel
from ultralytics.engine.compress.checks.models import load_named
from ultralytics.engine.pruning import largest_difference, prune_model
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionSparsifier
from ultralytics.models.yolo.model import YOLOWorld
from ultralytics.models.yolo.world.compress import WorldCompressor, WorldFinetune
from ultralytics.nn import tasks
from ultralytics.nn.conversion.area_attention import is_split
from ultralytics.nn.conversion.stock_form import stock_form
from ultralytics.nn.modules.block import BNContrastiveHead
from ultralytics.nn.tasks import DetectionModel, WorldModel

pytestmark = pytest.mark.skipif(not hasattr(tasks, "YOLOEModel"), reason="this Ultralytics has no YOLOE")
BACKBONE = [
    [-1, 1, "Conv", [16, 3, 2]],
    [-1, 1, "Conv", [32, 3, 2]],
    [-1, 1, "C2f", [32, True]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "C2f", [64, True]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "A2C2f", [64, True, 4]],
    [-1, 1, "Conv", [64, 3, 2]],
]
BODY = {"backbone": BACKBONE, "scale": "n", "scales": {"n": [1.0, 1.0, 1024]}}  # older releases need a scale
LEVELS = [4, 6, 7]
QUICK = {**FAST, "epochs": 1, "prune_method": "lamp", "round_to": 1, "recalibrate": False, "name": "q"}


@pytest.fixture(scope="module")
def yoloe_pt(tmp_path_factory):
    """A small YOLOE whose classes are those of the tiny data set."""
    torch.manual_seed(0)
    head = [[LEVELS, 1, "YOLOEDetect", ["nc", 512, True]]]
    yaml = {"nc": 80, **BODY, "head": head, "yaml_file": "yoloe-v8n.yaml"}
    model = YOLOEModel(yaml, verbose=False)
    model.set_classes(["blue", "yellow"], torch.randn(1, 2, 512))
    enliven(model, model.predict)
    return saved(model, tmp_path_factory.mktemp("yoloe") / "open-yoloe.pt")


@pytest.fixture(scope="module")
def yolov12_pt(tmp_path_factory):
    """A small network with the attention of the original YOLOv12 repository, and its stock form."""
    torch.manual_seed(0)
    model = DetectionModel({"nc": 2, **BODY, "head": [[LEVELS, 1, "Detect", ["nc"]]]}, verbose=False)
    enliven(model, model.predict)
    for block in model.modules():
        if isinstance(block, AAttn):
            take_apart(block)
    return saved(model, tmp_path_factory.mktemp("yolov12") / "original.pt")


@pytest.fixture(scope="module", params=[True, False], ids=["second version", "first version"])
def world_pt(request, tmp_path_factory):
    """A small YOLO-World whose classes are those of the tiny data set."""
    torch.manual_seed(0)
    head = [[4, 1, "C2fAttn", [64, 32, 2]], [-1, 1, "Conv", [64, 1]], [[8, 6, 7], 1, "WorldDetect", ["nc", 512, True]]]
    if not request.param:  # texts look at the image as well, and features are normalised
        head[1:] = [[[8, 6, 7], 1, "ImagePoolingAttn", [32]], [6, 1, "C2fAttn", [64, 32, 2]]]
        head.append([[8, 10, 7], 1, "WorldDetect", ["nc", 512, False]])
    yaml = {"nc": 2, **BODY, "head": head, "yaml_file": "yolov8n-world.yaml"}
    model = WorldModel(yaml, nc=2, verbose=False)
    model.txt_feats = torch.nn.functional.normalize(torch.randn(1, 2, 512), dim=-1)
    model.names = ["blue", "yellow"]  # as YOLOWorld.set_classes leaves them
    enliven(model, model.predict)
    return saved(model, tmp_path_factory.mktemp("world") / "open-world.pt")


def take_apart(block):
    """Give stock attention the layers of the original one; the weights need not be the same."""
    from ultralytics.nn.modules.conv import Conv

    dim = block.num_heads * block.head_dim
    block.qk, block.v = Conv(dim, 2 * dim, 1, act=False), Conv(dim, dim, 1, act=False)
    block.pe = Conv(dim, dim, 5, 1, 2, g=dim, act=False)
    del block.qkv
    vars(block).pop("all_head_dim", None)  # which older releases do not note


def saved(model, file):
    """Save a model; older releases know the class that opens it by the file's name."""
    torch.save({"model": model.eval().half(), "train_args": {"imgsz": 32}}, file)
    return str(file)


def test_yoloe_becomes_a_pruned_yolo(yoloe_pt, tiny_data, tmp_path, log):
    model = YOLO(yoloe_pt)
    assert type(model).__name__ == "YOLOE"
    report = model.compress(data=tiny_data, project=str(tmp_path), **QUICK)
    assert type(model) is YOLO and type(model.model) is DetectionModel
    assert "its classes are fixed from now on (blue, yellow)" in log.text
    assert not HAS_DISTILLATION or "distillation" not in log.text  # the dense model is a teacher as it is
    dense, pruned = (load_checkpoint(tmp_path / "q-prune" / "weights" / name)[0] for name in ("dense.pt", "prune.pt"))
    assert report["rows"]["dense"]["weights"] == str(tmp_path / "q-prune" / "weights" / "dense.pt")
    assert type(dense) is type(pruned) is DetectionModel
    assert largest_difference(dense, pruned, Record.of(pruned), torch.rand(1, 3, 64, 64)) < 1e-4
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        opened, closed = (m(image)[0] for m in (load_checkpoint(yoloe_pt)[0], dense))
    torch.testing.assert_close(closed, opened, rtol=1e-2, atol=1e-2 * float(opened.abs().max()))  # FP16 in the file


def test_original_yolov12_is_pruned(yolov12_pt, tiny_data, tmp_path, log):
    model = YOLO(yolov12_pt)
    assert any(is_split(m) for m in model.model.modules())
    report = model.compress(data=tiny_data, project=str(tmp_path), **QUICK)
    assert report["rows"].keys() == {"dense", "pruned", "fine-tuned"}
    assert not any(is_split(m) for m in model.model.modules())
    assert "queries, keys and values of its attention come from one convolution" in log.text


def test_world_is_pruned_and_tuned_with_the_texts_that_it_carries(world_pt, tiny_data, tmp_path, log, every_runtime):
    model = YOLO(world_pt)
    report = model.compress(data=tiny_data, project=str(tmp_path), **QUICK)
    assert type(model) is YOLOWorld and type(model.model) is WorldModel
    assert not HAS_DISTILLATION or "no distillation" not in log.text
    dense, pruned = (load_checkpoint(f)[0] for f in (world_pt, tmp_path / "q-prune" / "weights" / "prune.pt"))
    second = isinstance(dense.model[-1].cv4[0], BNContrastiveHead)  # which alone Ultralytics can export
    assert ("onnx_latency_ratio" in report) == second and ("export" in report["runtimes"]["onnx"]) != second
    assert torch.equal(model.model.txt_feats, dense.txt_feats)
    assert {type(m) for m in model.model.modules()} == {type(m) for m in dense.modules()}
    assert largest_difference(dense, pruned, Record.of(pruned), torch.rand(1, 3, 64, 64)) < 1e-4
    pruned.txt_feats = torch.randn(1, 5, 512)  # which another list of classes would bring
    pruned.model[-1].nc = 5
    assert pruned(torch.rand(1, 3, 64, 64))[0].shape[1] == 4 + 5


@pytest.mark.parametrize("world_pt", [True], indirect=True)
def test_world_that_was_pruned_is_not_grown_back(world_pt, tiny_data, tmp_path):
    keys = {
        **QUICK,
        "data": tiny_data,
        "project": str(tmp_path),
        "model": world_pt,
        "name": "w-prune",
        "task": "detect",
    }
    prune_pt = WorldCompressor(overrides=keys).compress()
    with pytest.raises(ValueError, match="Train it on them with WorldFinetune"):
        YOLOWorld(prune_pt).train(data=tiny_data, epochs=1, imgsz=32, project=str(tmp_path), device="cpu")
    renamed = {**YAML.load(tiny_data), "names": {0: "cat", 1: "dog"}}
    YAML.save(tmp_path / "renamed.yaml", renamed)
    with pytest.raises(ValueError, match="carries the embeddings of"):
        WorldFinetune(overrides={**keys, "model": prune_pt, "data": str(tmp_path / "renamed.yaml")}).train()
    yaml = load_checkpoint(prune_pt)[0].yaml
    with pytest.raises(FileNotFoundError, match="ultralytics-compress can train"):  # as stock Ultralytics builds it
        WorldModel(yaml["yaml_file"], verbose=False)


@pytest.mark.parametrize("world_pt", [True], indirect=True)
def test_world_has_trainers_of_its_own(world_pt, settings):
    with pytest.raises(ValueError, match=r"is a YOLO-World model. Use WorldCompressor and WorldFinetune"):
        DetectionCompressor(overrides={**settings, "model": world_pt})


@pytest.mark.parametrize("world_pt", [True], indirect=True)
def test_world_is_made_sparse(world_pt, tiny_data, tmp_path):
    keys = {**QUICK, "data": tiny_data, "project": str(tmp_path), "prune_method": "slim", "sl_epochs": 1, "reg": 0.01}
    YOLO(world_pt).compress(**keys)
    assert type(load_checkpoint(tmp_path / "q-sparsify" / "weights" / "best.pt")[0]) is WorldModel


def test_sparsity_training_keeps_what_the_yaml_does_not_say(yolov12_pt, tiny_data, tmp_path):
    """The positional encoding has another kernel, which a model that is built anew from its YAML would not have."""
    keys = {**QUICK, "data": tiny_data, "project": str(tmp_path), "prune_method": "slim", "sl_epochs": 1, "reg": 0.01}
    YOLO(yolov12_pt).compress(**keys)
    for run in ("q-sparsify/weights/best.pt", "q-finetune/weights/best.pt"):
        model, _ = load_checkpoint(tmp_path / run)
        assert {m.pe.conv.kernel_size for m in model.modules() if isinstance(m, AAttn)} == {(5, 5)}


def test_dense_epochs_are_refused_for_what_the_yaml_does_not_say(yolov12_pt, tiny_data, tmp_path):
    keys = {**QUICK, "data": tiny_data, "project": str(tmp_path / "runs"), "dense_epochs": 1}
    with pytest.raises(ValueError, match=r"'dense_epochs=1' is not supported with 'model=.*leave dense_epochs out"):
        YOLO(yolov12_pt).compress(**keys)
    assert not (tmp_path / "runs").exists()


def test_resumed_run_does_not_convert_again(yoloe_pt, tiny_data, tmp_path, log):
    keys = {**QUICK, "data": tiny_data, "project": str(tmp_path)}
    YOLO(yoloe_pt).compress(**keys)
    written = (tmp_path / "q-prune" / "weights" / "dense.pt").stat().st_mtime_ns
    log.clear()
    YOLO(yoloe_pt).compress(**keys, resume=True)
    assert (tmp_path / "q-prune" / "weights" / "dense.pt").stat().st_mtime_ns == written
    assert "classes are fixed" not in log.text


def test_classes_must_be_those_of_the_data(yoloe_pt, tiny_data, tmp_path):
    checkpoint = torch.load(yoloe_pt, weights_only=False)
    checkpoint["model"].names = {0: "yellow", 1: "blue"}
    torch.save(checkpoint, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"knows the classes \['yellow'.*has \['blue', 'yellow'\]. Set those"):
        YOLO(tmp_path / "other.pt").compress(data=tiny_data, project=str(tmp_path / "runs"), **QUICK)
    assert not (tmp_path / "runs").exists()


def test_classes_that_were_set_and_not_saved_are_noticed(yoloe_pt, tiny_data, tmp_path):
    model = YOLO(yoloe_pt)
    model.model.set_classes(["blue", "yellow"], torch.randn(1, 2, 512))
    with pytest.raises(ValueError, match="other weights than"):
        model.compress(data=tiny_data, project=str(tmp_path), **QUICK)


def test_open_classes_are_refused_with_the_way_to_set_them(yoloe_pt, tiny_data, tmp_path):
    checkpoint = torch.load(yoloe_pt, weights_only=False)
    del checkpoint["model"].pe
    torch.save(checkpoint, tmp_path / "open.pt")
    keys = {"model": str(tmp_path / "open.pt"), "data": tiny_data, "project": str(tmp_path / "runs"), **QUICK}
    with pytest.raises(ValueError, match=r"'model=.*open.pt' cannot be compressed: .* without classes. Set them"):
        DetectionCompressor(overrides=keys)


def test_library_names_the_form_that_it_needs(yoloe_pt):
    model, _ = load_checkpoint(yoloe_pt)
    with pytest.raises(ValueError, match=r"pass stock_form\(model\)\[0\]"):
        prune_model(model, prune_method="lamp")
    prune_model(stock_form(model)[0], prune_method="lamp")


def test_sparsity_training_alone_is_refused(yolov12_pt, settings):
    keys = {**settings, "model": yolov12_pt, "prune_method": "slim"}
    with pytest.raises(ValueError, match=r"'model=.*Use the weights/dense.pt"):
        DetectionSparsifier(overrides=keys)


@pytest.mark.parametrize("key", ["distill_model", "sl_model"])
def test_files_that_stock_trainers_read_are_not_converted(key, yolov12_pt):
    with pytest.raises(ValueError, match=f"'{key}=.*Use the weights/dense.pt"):
        load_named(key, Path(yolov12_pt))
