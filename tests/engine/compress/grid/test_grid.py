# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which cells a grid has, what they share, and what is refused before any work."""

from pathlib import Path

import pytest
from conftest import Interrupted, interrupt

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import DEFAULTS, TYPES, read_sweep
from ultralytics.cfg.compress.names import SWEEPABLE
from ultralytics.engine.compress import evaluation
from ultralytics.engine.compress.checks import cluster
from ultralytics.engine.compress.checks.cluster import RAY_KEYS, Cluster
from ultralytics.engine.compress.grid.cells import Cell, name_cell, read_cells
from ultralytics.engine.compress.grid.shared import Shared
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune

SLIM = {"sl_epochs": 1, "speed_up": [2, 3]}


def test_cells_are_all_combinations_with_the_largest_target_first():
    cells = read_cells({"prune_method": ["lamp", "l1"], "speed_up": [1.5, 3], "epochs": 9})
    assert [cell.name for cell in cells] == ["3x-l1", "3x-lamp", "1.5x-l1", "1.5x-lamp"]
    assert cells[0].keys == {"speed_up": 3.0, "prune_method": "l1"}
    assert [cell.name for cell in read_cells({"target": [5, 2.5]})] == ["target2.5", "target5"]
    assert [cell.entry for cell in read_cells({"speed_up": [1.5, 2]})] == ["2", "1.5"]  # as version 0.2.0 has noted


def test_every_key_that_may_be_a_list_names_its_values():
    assert DEFAULTS.keys() >= SWEEPABLE.keys()
    values = {float: [0.5, 0.25], int: [1, 2], bool: [True, False], str: ["a", "b"], Path: [Path("a.yaml"), "b.yaml"]}
    for key, name in SWEEPABLE.items():
        first, second = (name(value) for value in values[TYPES[key]])
        assert first != second and "/" not in first
    assert name_cell({"global_pruning": False, "round_to": 4, "epochs": 5}).name == "no_global_pruning-round_to4"


def test_the_command_line_leaves_lists_of_names_as_strings():
    assert read_sweep({"prune_method": "[lamp, 'l1']", "speed_up": 2.0}) == {"prune_method": ["lamp", "l1"]}
    assert read_sweep({"prune_method": "lamp", "deploy": ["onnx"]}) == {}


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"prune_method": ["lamp", "lampp"]}, ValueError, "'prune_method=lampp' is invalid"),
        ({"prune_method": ["lamp", "lamp"]}, ValueError, "'prune_method=.*one value or more, all different"),
        ({"reg": [1e-4, 1.0000001e-4]}, ValueError, "'reg=.*all different"),
        ({"round_to": []}, ValueError, r"'round_to=\[\]' .* one value or more"),
        ({"distill": [True, "no"]}, TypeError, "'distill=no' is of invalid type str"),
        ({"sensitivity": [True, False]}, TypeError, "'sensitivity=.*' is of invalid type list"),
        ({"speed_up": [2, 3], "target": [1, 2]}, ValueError, "Give the cost itself or the ratio, not both"),
        ({"speed_up": [2, 3], "gpu_per_trial": 1}, ValueError, "'gpu_per_trial=1' is a setting of Ray"),
        ({"speed_up": 2.0, "use_ray": True}, ValueError, "'use_ray=True' is for several runs"),
    ],
)
def test_a_wrong_grid_is_refused_before_any_folder(settings, tmp_path, keys, error, message):
    with pytest.raises(error, match=message):
        YOLO(settings["model"]).compress(**{**settings, **keys})
    assert not list(tmp_path.iterdir())


def test_a_fine_tuning_by_itself_does_not_run_on_ray(settings):
    with pytest.raises(ValueError, match="'use_ray=True' is for several runs"):
        DetectionFinetune(overrides={**settings, "use_ray": True})


def test_without_ray_it_is_refused_before_any_work(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "RAY_PACKAGES", ["no-such-ray>=2.0"])
    with pytest.raises(ModuleNotFoundError, match=r"'use_ray=True' needs no-such-ray.*ultralytics-compress\[ray\]"):
        YOLO(settings["model"]).compress(**{**settings, "speed_up": [1.5, 2], "use_ray": True})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"device": "0"}, "'device=0' is invalid with use_ray=True: Ray hands out the GPUs"),
        ({"device": "cpu", "gpu_per_trial": 1}, "'gpu_per_trial=1' contradicts 'device=cpu'"),
        ({"gpu_per_trial": 1.5}, "'gpu_per_trial=1.5' .* whole number, or a share"),
        ({"gpu_per_trial": -1}, "'gpu_per_trial=-1' .* must not be negative"),
        ({"gpu_per_trial": 2, "grace_period": 5}, "'grace_period=5' is invalid with 'gpu_per_trial=2'"),
        ({"grace_period": 0}, "'grace_period=0' .* must be >= 1"),
    ],
)
def test_settings_of_ray_are_checked(monkeypatch, keys, message):
    monkeypatch.setattr(cluster, "RAY_PACKAGES", [])
    with pytest.raises(ValueError, match=message):
        Cluster.of({"use_ray": True, **keys})


def test_settings_of_ray_are_those_of_the_keys_file(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "RAY_PACKAGES", [])
    monkeypatch.chdir(tmp_path)
    assert Cluster.of({}) is None and DEFAULTS.keys() >= {*RAY_KEYS}
    assert Cluster.of({"use_ray": True, "storage_path": "here"}) == Cluster(None, 2, str(tmp_path / "here"), None)
    assert Cluster.of({"use_ray": True, "storage_path": "s3://there"}).storage == "s3://there"


@pytest.mark.parametrize(
    ("args", "leaders"),
    [
        ({"prune_method": ["lamp", "l1"], "speed_up": [2, 3]}, ["3x-l1"]),
        ({"prune_method": ["lamp", "l1"], "speed_up": [2, 3], "sensitivity": True}, ["3x-l1", "3x-lamp"]),
        ({"prune_method": ["lamp", "slim"], **SLIM}, ["3x-slim"]),
        ({"prune_method": ["slim", "lamp"], **SLIM}, ["3x-lamp", "3x-slim"]),
        ({"prune_method": "slim", "reg": [1e-4, 1e-3], **SLIM}, ["3x-reg0.001", "3x-reg0.0001"]),
        ({"prune_method": ["growing_reg", "slim"], **SLIM}, ["3x-slim"]),  # the other trains towards the target
    ],
)
def test_cells_whose_cut_serves_others_lead(args, leaders):
    assert [cell.name for cell in Shared(args).leaders(read_cells(args))] == leaders


def test_a_cell_knows_nothing_before_the_first_one():
    known = Shared({}).known(Cell("2x", {"speed_up": 2.0}))
    assert known == ({}, {}, [], [])


def test_methods_are_swept_from_one_dense_model_on_the_command_line(settings, tmp_path, monkeypatch):
    """Every model is validated once: the dense one, and two cuts."""
    validated = []
    real = evaluation.validate
    monkeypatch.setattr(evaluation, "validate", lambda *args: validated.append(1) or real(*args))
    monkeypatch.setattr(DetectionCompressor, "finetune", interrupt)
    words = " ".join(f"{key}={value}" for key, value in settings.items() if key != "speed_up")
    with pytest.raises(Interrupted):
        ultralytics.cfg.entrypoint(f"yolo compress prune_method=[lamp,l1] round_to=4 {words} name=m")
    assert YAML.load(tmp_path / "m-sweep" / "runs.yaml") == {
        method: str(tmp_path / f"m-{method}-prune") for method in ("l1", "lamp")
    }
    assert len(validated) == 3
    methods = [YAML.load(tmp_path / f"m-{method}-prune" / "compress.yaml")["prune_method"] for method in ("l1", "lamp")]
    assert methods == ["l1", "lamp"]
