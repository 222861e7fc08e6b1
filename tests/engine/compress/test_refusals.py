# SPDX-License-Identifier: AGPL-3.0-or-later
"""What can only be refused later, what anybody's checkpoint may say, and what a refusal on the command line is."""

import inspect
import os
import subprocess
import sys

import pytest
import torch
from conftest import needs

import ultralytics.cfg
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.training import OPTIMIZERS, is_optimizer
from ultralytics.engine.compress import compressor as compressor_module
from ultralytics.engine.compress import pruning as pruning_module
from ultralytics.engine.compress.finetuner import find_teacher, report_on_finetuning
from ultralytics.engine.compress.sparsifier import load_doomed
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.latency.table import LatencyTable
from ultralytics.engine.pruning.surgery.oracle import masked
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect.compress import DetectionCompressor

QUICK = {"prune_method": "lamp", "speed_up": 1.5, "round_to": 1, "recalibrate": False, "name": "q-prune"}


@pytest.fixture(scope="module")
def pruned_pt(best_pt, tiny_data, tmp_path_factory):
    """A pruned checkpoint."""
    place = {"model": best_pt, "data": tiny_data, "project": str(tmp_path_factory.mktemp("pruned"))}
    own = {"imgsz": 32, "batch": 4, "plots": False, "device": "cpu", "workers": 0}
    return DetectionCompressor(overrides={**QUICK, **place, **own}).compress()


def test_optimizers_are_those_of_ultralytics():
    source = inspect.getsource(BaseTrainer.build_optimizer)
    names = source.partition("optimizers = {")[2].partition("}")[0]  # older releases have no such list
    assert not names or sorted(name.strip(' "') for name in names.split(",")) == sorted(OPTIMIZERS)


@pytest.mark.compat
@pytest.mark.parametrize("name", ["Adam", "Adamax", "adamw", "NAdam", "RAdam", "RMSProp", "RMSprop", "SGD", "MuSGD"])
def test_optimizers_are_taken_where_trainers_build_them(name, yolov8n):
    trainer = BaseTrainer.__new__(BaseTrainer)
    try:
        trainer.build_optimizer(yolov8n, name)
    except NotImplementedError:
        assert not is_optimizer(name)
    else:
        assert is_optimizer(name)


def test_sparsity_training_that_diverged_is_not_pruned(settings, tmp_path):
    keys = {**settings, "prune_method": "slim", "sl_epochs": 1, "reg": 1e30, "speed_up": 1.5, "name": "d-prune"}
    with pytest.raises(ValueError, match="not finite.*diverged"):
        DetectionCompressor(overrides=keys).compress()
    assert not list(tmp_path.rglob("prune.pt"))


@pytest.mark.parametrize("exist_ok", [False, True])
def test_target_that_limits_put_out_of_reach_leaves_no_new_folder(settings, tmp_path, exist_ok, monkeypatch):
    monkeypatch.setattr(pruning_module, "_limits", lambda *_: Everything({"model.0.conv": 0.0}))
    if exist_ok:
        (tmp_path / "q-prune" / "weights").mkdir(parents=True)
        (tmp_path / "q-prune" / "mine.txt").touch()
    run = DetectionCompressor(overrides={**settings, **QUICK, "exist_ok": exist_ok})
    with pytest.raises(ValueError, match=r"'speed_up=1.5' cannot be reached"):
        run.compress()
    left = sorted(path.name for path in (tmp_path / "q-prune").rglob("*")) if exist_ok else list(tmp_path.iterdir())
    assert left == (["args.yaml", "compress.yaml", "mine.txt", "weights"] if exist_ok else [])


class Everything(dict):
    """Limits that let no group lose anything."""

    def get(self, *_):
        return 0.0


def test_damaged_latency_table_is_refused_before_there_is_a_folder(settings, tmp_path, monkeypatch):
    defaults = LatencyTable.__init__.__defaults__
    monkeypatch.setattr(LatencyTable.__init__, "__defaults__", (tmp_path / "latency",))
    assert len(defaults) == 1
    file = LatencyTable("pytorch", torch.device("cpu")).file
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(ValueError, match="Delete it"):
        DetectionCompressor(overrides={**settings, **QUICK, "budget": "pytorch"})
    assert file.read_text() == "{" and [path.name for path in tmp_path.iterdir()] == ["latency"]


@pytest.mark.parametrize("content", [b"", b"hello", [True], torch.zeros(3), torch.zeros(2, 2, dtype=torch.bool), print])
def test_damaged_choice_of_units_is_refused(content, tmp_path):
    file = tmp_path / "doomed.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ValueError, match=r"doomed\.pt' .*Delete it"):
        load_doomed(file, torch.device("cpu"))


@needs("distillation")
def test_source_that_never_ends_is_not_read(pruned_pt, tmp_path, log):
    model = load_checkpoint(pruned_pt)[0]
    os.mkfifo(tmp_path / "pipe.pt")
    for path in ("/dev/zero", str(tmp_path / "pipe.pt"), str(tmp_path)):
        model.pruning["source"] = {"path": path, "sha256": "0"}
        assert find_teacher(model) is None
    assert log.text.count("is gone or has changed") == 3


@pytest.mark.parametrize(
    "channels",
    [
        {"model.0.conv": {"out": [0], "in": [10**6]}},
        {"model.0.conv": {"out": [10**6], "in": [0]}},
        {"model.99.conv": {"out": [0], "in": [0]}},
    ],
)
def test_channels_of_another_model_are_refused(pruned_pt, yolov8n, channels):
    values = {**Record.of(load_checkpoint(pruned_pt)[0]).to_dict(), "channels": channels}
    with pytest.raises(ValueError, match="the record belongs to another model: it keeps channels of 'model"):
        masked(yolov8n, Record.from_dict(values))


@pytest.mark.parametrize(
    "axes", [{}, {"out": [0]}, {"out": 0, "in": [0]}, {"out": [-1], "in": [0]}, {"out": [0.5], "in": [0]}]
)
def test_channels_that_are_no_indices_are_refused(pruned_pt, axes):
    values = Record.of(load_checkpoint(pruned_pt)[0]).to_dict()
    with pytest.raises(ValueError, match="record is damaged: 'channels'"):
        Record.from_dict({**values, "channels": {"model.0.conv": axes}})


@pytest.mark.parametrize("content", ["{", "[1]", '{"rows": {}}', '{"rows": {"dense": {"weights": "/dev/zero"}}}'])
def test_run_that_is_none_costs_the_report_alone(settings, pruned_pt, tmp_path, content, log):
    checkpoint = torch.load(pruned_pt, weights_only=False)
    checkpoint["model"].pruning["run"] = str(tmp_path)
    torch.save(checkpoint, tmp_path / "best.pt")
    (tmp_path / "report.json").write_text(content)
    run = DetectionCompressor(overrides={**settings, **QUICK, "project": str(tmp_path / "runs")})
    report_on_finetuning(tmp_path / "best.pt", run.args, run.device, print)
    assert "no report: " in log.text and "is no report" in log.text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("speed_up=0.5 model=yolov8n.yaml data=coco8.yaml", "'speed_up=0.5' is an invalid value"),
        ("data=x.yaml", "'model' argument is missing"),
    ],
)
def test_refusal_on_the_command_line_is_a_sentence_and_no_traceback(words, sentence, tmp_path):
    code = "import sys; sys.argv = ['yolo', *sys.argv[1:]]; from ultralytics.cfg import entrypoint; entrypoint()"
    command = [sys.executable, "-c", code, "compress", *words.split()]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 1 and "Traceback" not in process.stderr + process.stdout
    assert process.stderr.startswith(f"yolo compress: {sentence}")
    assert not list(tmp_path.iterdir())


def test_fault_of_ours_keeps_its_traceback(settings, monkeypatch):
    monkeypatch.setattr(compressor_module.Compressor, "_compress", lambda _: [].index(1))
    words = f"model={settings['model']} data={settings['data']} project={settings['project']} device=cpu"
    monkeypatch.setattr(ultralytics.cfg, "ARGV", ["yolo", "compress", *words.split()])
    with pytest.raises(ValueError, match="not in list"):
        ultralytics.cfg.entrypoint()
