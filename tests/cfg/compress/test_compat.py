# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compatibility room has every name that differs between Ultralytics' releases, and a run goes through in each."""

import ast
import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import build_model, needs

import ultralytics
from ultralytics import YOLO
from ultralytics.cfg.compress import activation, keys
from ultralytics.cfg.compress.compat import TESTED, checkpoints, devices, files, modules, training
from ultralytics.cfg.compress.compat import keys as keys_of_compat
from ultralytics.engine.compress import arguments, teacher
from ultralytics.engine.pruning.budget.flops import sum_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.checks import parse_version
from ultralytics.utils.torch_utils import get_flops

OVERLAY = Path(__file__).resolve().parents[3] / "ultralytics"
ROOM = OVERLAY / "cfg/compress/compat"
TESTS = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.compat


def stock_imports(file):
    """Return the names that a file imports from Ultralytics' own modules."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    stock = [node for node in froms if (node.module or "").startswith("ultralytics") and ".compat" not in node.module]
    return {alias.name for node in stock for alias in node.names}


def dotted(file):
    """Return the name of a module by its file, relative to the overlay."""
    return ".".join(["ultralytics", *Path(file).with_suffix("").parts])


def test_other_code_takes_these_names_from_the_room():
    room = {*modules.__dict__} & {"AAttn", "Proto26", "Depth", "Pose26", "SemanticSegment", "YOLOEDetect"}
    room |= {"YAML", "get_save_dir", "load_checkpoint", "attempt_load_one_weight", "unwrap_model", "de_parallel"}
    room |= {"unset_deterministic", "get_gpu_info", "override_configs", "is_qat", "strip_qat"}
    others = [file for file in (*OVERLAY.rglob("*.py"), *TESTS.rglob("*.py")) if ROOM not in file.parents]
    assert {str(file): found for file in others if (found := stock_imports(file) & room)} == {}


def test_every_module_can_be_imported():
    """Modules of tasks that this Ultralytics lacks are left out: nothing asks for them; and so is the deploy stage."""
    tasks = {file: file.with_name("train.py").relative_to(OVERLAY) for file in OVERLAY.glob("models/**/compress.py")}
    absent = {file for file, train in tasks.items() if not keys_of_compat.has_module(dotted(train))}
    names = [dotted(file.relative_to(OVERLAY)) for file in OVERLAY.rglob("*.py") if file not in absent]
    for name in names:
        if ".startup." in name or (".deploy." in name and "quantize" not in DEFAULT_CFG_DICT):
            continue
        try:
            importlib.import_module(name.removesuffix(".__init__"))
        except ModuleNotFoundError as error:  # a runtime that is not installed
            assert not error.name.startswith("ultralytics"), name
    assert len(names) > 100


def test_releases_are_named_in_order():
    assert list(TESTED) == sorted(TESTED, key=parse_version)


def test_layers_that_are_missing_are_no_layers():
    absent = modules.find_class(SimpleNamespace(), "Novelty")
    assert absent.__name__ == "Novelty"
    assert not isinstance(build_model("yolov8n").model[-1], absent)


def test_yaml_files_are_read_and_written(tmp_path):
    files.YAML.save(tmp_path / "a.yaml", {"epochs": 3})
    assert files.YAML.load(tmp_path / "a.yaml") == {"epochs": 3}


@pytest.mark.parametrize("content", ["- lr0", "lr0", "3"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="is not a valid YAML mapping"):
        files.load_mapping(tmp_path / "a.yaml")


def test_folder_of_a_run_is_named_and_not_made(tmp_path):
    place = SimpleNamespace(project=str(tmp_path), name="run", task="detect", mode="train", exist_ok=False)
    assert files.get_save_dir(place) == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    assert files.get_save_dir(place).name == f"run{files.NUMBER_MARK}2"


def test_arguments_are_as_before_after_the_block():
    args = SimpleNamespace(cache=True)
    with pytest.raises(KeyError), training.override_configs(args, {"cache": False, "compile": False}):
        assert vars(args) == {"cache": False, "compile": False}
        raise KeyError
    assert vars(args) == {"cache": True}


def test_determinism_ends():
    torch.use_deterministic_algorithms(True)
    devices.unset_deterministic()
    assert not torch.are_deterministic_algorithms_enabled()


@needs("attention in get_flops")
@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo12n"])
def test_own_sum_is_ultralytics_figure(name):
    model = build_model(name)
    assert sum_flops(model) == pytest.approx(get_flops(model), rel=1e-4)


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_target_is_met_by_our_own_sum(name):
    dense = build_model(name)
    pruned, record = prune_model(dense, Budget(2.0), prune_method="lamp")
    assert record.reached == pytest.approx(2.0, rel=0.02)
    assert sum_flops(dense) / sum_flops(pruned) == pytest.approx(record.reached, rel=1e-3)


@pytest.fixture(scope="module")
def run(best_pt, tiny_data, tmp_path_factory):
    """Return the folder beside which a compress run has left its own."""
    folder = tmp_path_factory.mktemp("compat")
    fast = {"imgsz": 32, "epochs": 1, "batch": 4, "plots": False, "device": "cpu", "workers": 0}
    YOLO(best_pt).compress(data=tiny_data, project=str(folder), name="a", speed_up=1.5, prune_batches=1, **fast)
    return folder


def test_run_leaves_a_pruned_model_and_a_report(run):
    model, _ = checkpoints.load_checkpoint(run / "a-finetune/weights/best.pt")
    assert model.pruning["reached"] == pytest.approx(1.5, rel=0.05)
    assert (run / "a-finetune/report.json").is_file()
    assert sorted(path.name for path in run.iterdir()) == ["a-finetune", "a-prune"]


def test_short_fine_tuning_steps_with_every_batch(run):
    """The rule for 'nbs' holds whether or not Ultralytics builds loaders and optimizer in a method of their own."""
    assert checkpoints.load_checkpoint(run / "a-finetune/weights/best.pt")[0].args["nbs"] == 4


def test_run_trains_on_with_stock_classes(run, tiny_data):
    best = run / "a-finetune/weights/best.pt"
    yolo = YOLO(best)
    yolo.train(data=tiny_data, project=str(run.parent / "on"), imgsz=32, epochs=1, batch=4, plots=False, device="cpu")
    kept = sum(p.numel() for p in checkpoints.load_checkpoint(best)[0].parameters())
    assert sum(p.numel() for p in yolo.model.parameters()) == pytest.approx(kept, rel=0.01)


def test_teacher_is_refused_where_ultralytics_cannot_distil(monkeypatch, best_pt, tiny_data):
    monkeypatch.setattr(keys, "HAS_DISTILLATION", False)
    with pytest.raises(ValueError, match=r"'distill_model=t.pt' needs an Ultralytics that distils, and this is \d"):
        YOLO(best_pt).compress(data=tiny_data, distill_model="t.pt")


def test_no_distillation_is_said(monkeypatch, log, yolov8n):
    monkeypatch.setattr(teacher, "HAS_DISTILLATION", False)
    assert teacher.find_teacher(yolov8n) is None
    assert f"no distillation: Ultralytics {ultralytics.__version__} cannot distil" in log.text


def test_several_gpus_are_refused_where_workers_get_no_callbacks(monkeypatch, settings, tmp_path):
    monkeypatch.setattr(arguments, "CARRIES_CALLBACKS", False)
    with pytest.raises(ValueError, match="'device=0,1' is not supported by compress with Ultralytics"):
        DetectionCompressor(overrides={**settings, "device": "0,1", "name": "a"})
    assert not list(tmp_path.glob("a*"))


def test_release_that_nobody_has_tried_is_said_once(monkeypatch, log):
    monkeypatch.setattr(ultralytics, "__version__", "9.9.9")
    activation.warn_of_untested.cache_clear()
    activation.activate()
    activation.activate()
    assert log.text.count("and this is 9.9.9. It goes on") == 1
    activation.warn_of_untested.cache_clear()


def test_a_loss_is_built_anew():
    """RT-DETR, and YOLO-World, of older releases do so if there is no such attribute, not if it is None."""
    model = build_model("yolov8n-rtdetr").train()
    model.nc, model.criterion = 4, None
    modules.forget_loss(model)
    box = {"cls": torch.zeros(1, 1), "bboxes": torch.full((1, 4), 0.5), "batch_idx": torch.zeros(1)}
    assert model.loss({"img": torch.rand(1, 3, 128, 128), **box})[0].sum().isfinite()
