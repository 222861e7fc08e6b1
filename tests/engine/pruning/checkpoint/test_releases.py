# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints say which Ultralytics loads them, and where one does not, so does the error."""

import importlib
import sys
from types import ModuleType

import pytest
import torch
from conftest import FAMILIES, TASKS, also_slow, build_model, load_architecture, save_dense
from torch import nn

import ultralytics
from ultralytics import YOLO
from ultralytics.engine.compress.checks.models import load_named
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.names import absent_classes
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.checkpoint.releases import RELEASES, NeedsNewerUltralyticsError, oldest_release
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.modules import block
from ultralytics.nn.modules.head import Detect


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("yolov8n", "8.0.200"),
        ("yolov8n-obb", "8.2.103"),
        ("yolov9t", "8.2.103"),
        ("yolov10n", "8.2.103"),
        ("yolo11n", "8.3.0"),
        ("yolo12n", "8.3.78"),
        ("yolo26n", "8.4.0"),
        ("yolo26n-cls", "8.3.0"),
        ("yolo26n-sem", "8.4.52"),
        ("yolo26n-depth", "8.4.104"),
    ],
)
def test_the_oldest_release_of_a_model(name, release):
    assert oldest_release(build_model(name)) == release


@pytest.mark.parametrize("name", also_slow([], [*FAMILIES, *TASKS]))
def test_every_supported_model_has_one(name):
    assert oldest_release(build_model(name)) in RELEASES


def test_of_a_class_that_is_somebody_s_own_nothing_is_known():
    model = build_model("yolov8n")
    model.model[0].act = type("Mine", (nn.Identity,), {})()
    assert oldest_release(model) == ""


@pytest.fixture(scope="module")
def prune_pt(tmp_path_factory):
    """Return a function that writes a pruned checkpoint."""

    def write(name):
        file = tmp_path_factory.mktemp("pruned") / f"{name}.pt"
        pruned, record = prune_model(build_model(name), Budget(1.5), prune_method="lamp")
        save_pruned(file, pruned, record)
        return file

    return write


def test_a_missing_class_is_named_with_the_release_that_has_it(prune_pt, monkeypatch):
    file = prune_pt("yolo12n")
    assert YOLO(file).model.pruning["needs_ultralytics"] == "8.3.78"
    monkeypatch.delattr(block, "A2C2f")
    sentence = r"'.*yolo12n.pt' is pruned and needs Ultralytics 8.3.78 or newer \(A2C2f\), and this is \d"
    with pytest.raises(NeedsNewerUltralyticsError, match=sentence):
        YOLO(file)
    with pytest.raises(SystemExit, match=sentence):
        monkeypatch.setattr(ultralytics.cfg, "ARGV", ["yolo", "compress", f"model={file}", "data=coco8.yaml"])
        ultralytics.cfg.entrypoint()


def test_other_checkpoints_fail_as_ever(tmp_path, monkeypatch):
    load_architecture("yolo12n.yaml")
    save_dense(YOLO("yolo12n.yaml"), tmp_path / "dense.pt")
    monkeypatch.delattr(block, "A2C2f")
    with pytest.raises(AttributeError, match="Can't get attribute 'A2C2f'"):
        YOLO(tmp_path / "dense.pt")


@pytest.mark.parametrize("module", ["ultralytics.nn.modules.block", "ultralytics.nn.extra_modules.attention", "mine"])
def test_a_class_of_a_fork_is_named_with_the_way_there(tmp_path, monkeypatch, module):
    class EMA(nn.Module):
        """A block that only the fork has."""

    EMA.__module__, EMA.__qualname__ = module, "EMA"
    with monkeypatch.context() as fork:
        fork.setitem(sys.modules, module, sys.modules.get(module, ModuleType(module)))
        fork.setattr(sys.modules[module], "EMA", EMA, raising=False)
        model = build_model("yolov8n")
        model.model[4].att = EMA()
        torch.save({"model": model}, tmp_path / "best.pt")
    monkeypatch.setattr("ultralytics.utils.checks.AUTOINSTALL", False)
    assert absent_classes(tmp_path / "best.pt") == [f"{module}.EMA"]
    with pytest.raises(ValueError, match=rf"'model=.*best.pt' has .* not here: {module}.EMA. .*_drop_in FORK'"):
        load_named("model", tmp_path / "best.pt")


def test_what_keeps_the_file_of_a_block_from_being_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_broken_blocks.py"
    file.write_text("from torch import nn\n\nclass Own(nn.Module):\n    pass\n")
    model = build_model("yolov8n")
    model.model[4].own = importlib.import_module(file.stem).Own()
    torch.save({"model": model}, tmp_path / "best.pt")
    monkeypatch.delitem(sys.modules, file.stem)
    file.write_text("from torch import does_not_exist\n")
    importlib.invalidate_caches()
    assert absent_classes(tmp_path / "best.pt") == []
    with pytest.raises(ValueError, match=r"'model=.*best.pt' cannot be loaded: cannot import name 'does_not_exist'"):
        load_named("model", tmp_path / "best.pt")


def test_a_head_that_would_predict_something_else_is_refused(prune_pt, monkeypatch):
    file = prune_pt("yolo26n")
    monkeypatch.delattr(Detect, "end2end")
    with pytest.raises(NeedsNewerUltralyticsError, match=r"needs Ultralytics 8.4.0 or newer \(a Detect head that"):
        YOLO(file)


def test_attention_that_is_as_wide_as_its_input_needs_no_newer_release(prune_pt, monkeypatch):
    file = prune_pt("yolo12n")
    if "__setstate__" in vars(block.AAttn):  # else this is a release before it
        monkeypatch.delattr(block.AAttn, "__setstate__")
    model = YOLO(file).model
    attention = next(m for m in model.modules() if isinstance(m, block.AAttn))
    attention.head_dim //= 2  # what version 0.1.0 has left
    model.pruning = {}
    torch.save({"model": model}, file)
    with pytest.raises(NeedsNewerUltralyticsError, match=r"needs Ultralytics 8.4.34 or newer \(an AAttn narrower"):
        YOLO(file)
