# SPDX-License-Identifier: AGPL-3.0-or-later
"""The fastest model that keeps its accuracy: the runs of a search, their record and how it ends."""

import csv
import json
import math

import cv2
import pytest
from conftest import Interrupted

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import get_prune_cfg
from ultralytics.engine.compress.checks import cluster
from ultralytics.engine.compress.search import search as searching
from ultralytics.engine.compress.search.bisection import TRIES, best_target
from ultralytics.engine.compress.search.search import tell, try_targets
from ultralytics.engine.compress.search.tries import TRIES_FILE, Tries
from ultralytics.engine.pruning.budget.solver import OutOfReachError


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"max_drop": 0.5, "speed_up": 3.0}, ValueError, "'max_drop=0.5' is invalid with 'speed_up=3.0'. Give the acc"),
        ({"max_drop": 0.5, "target": 3.0}, ValueError, "'target=3.0' is invalid with 'max_drop=0.5'"),
        ({"max_drop": -1}, ValueError, "'max_drop=-1' .* must not be negative"),
        ({"max_drop": "half"}, TypeError, "'max_drop=half' is of invalid type str"),
        ({"max_drop": 0.5, "prune_method": ["lamp", "l1"]}, ValueError, "needs one value of 'prune_method'"),
        ({"max_drop": 0.5, "storage_path": "s3://x"}, ValueError, "'storage_path=s3://x' is a setting of Ray"),
        ({"max_drop": 0.5, "speed_up": [2, 3]}, ValueError, r"'max_drop=0.5' is invalid with 'speed_up=\[2, 3\]'"),
    ],
)
def test_one_accuracy_and_nothing_else_says_how_far_to_cut(settings, tmp_path, keys, error, message):
    with pytest.raises(error, match=message):
        YOLO(settings["model"]).compress(**{**settings, **keys}, name="e")
    assert not any(tmp_path.iterdir())


def test_a_search_that_is_refused_leaves_no_folder(settings, tmp_path):
    for keys in ({"data": "nope.yaml"}, {"max_drop": 0, "finetune": False}):
        with pytest.raises(
            (FileNotFoundError, ValueError), match=r"'data=nope|'finetune=False' leaves out.*'max_drop=0'"
        ):
            YOLO(settings["model"]).compress(**{"max_drop": 0.5, **settings, "speed_up": 2.0, **keys}, name="m")
    assert not [*tmp_path.iterdir()]


def test_zero_is_a_wish():
    assert get_prune_cfg({"max_drop": 0}).max_drop == 0


def test_search_is_killed_and_resumed_and_holds_what_it_has_found(settings, tmp_path, monkeypatch, log):
    """Of models as these every metric is 0, so that nothing is lost up to the largest target."""
    monkeypatch.setattr(searching, "CEILING", 3.0)
    args = {**settings, "prune_method": "lamp", "epochs": 2, "distill": False, "plots": True, "name": "s"}
    del args["speed_up"], args["model"]
    epochs, kills = [], ["s-3x-finetune"]

    def note(trainer):
        if trainer.save_dir.name in kills and trainer.epoch == 1:
            kills.clear()
            raise Interrupted
        epochs.append((trainer.save_dir.name, trainer.epoch))

    model = YOLO("yolov8n.yaml")
    model.add_callback("on_train_epoch_end", note)
    with pytest.raises(Interrupted):
        model.compress(**args, max_drop=0.5)
    runs = YAML.load(tmp_path / "s-search" / "runs.yaml")
    assert list(runs) == ["2x", "3x"]

    model = YOLO("yolov8n.yaml")
    model.add_callback("on_train_epoch_end", note)
    log.clear()
    result = model.compress(**args, max_drop=0.5, resume=True)
    trained = ("s-2x-base", "s-2x-finetune", "s-3x-finetune")
    assert epochs == [(name, epoch) for name in trained for epoch in (0, 1)]  # none of them twice
    assert [row["model"] for row in result["rows"]] == ["dense", "2x", "3x"]
    assert result["met"] and result["max_drop"] == 0.5
    assert result == json.loads((tmp_path / "s-search" / "search.json").read_text())
    with open(tmp_path / "s-search" / "search.csv") as f:
        assert [float(row["points_lost"]) for row in csv.DictReader(f)] == [0.0] * 3
    assert cv2.imread(str(tmp_path / "s-search" / "search.png")).std() > 5
    assert result["weights"] == str(tmp_path / "s-3x-finetune" / "weights" / "best.pt") == model.ckpt_path
    assert load_checkpoint(result["weights"])[0].pruning["reached"] == pytest.approx(3, rel=0.05)
    assert "speed_up=3 loses 0.00 of at most 0.5 points of mAP50-95: yolo export model=" in log.text


class Fake:
    """Stands for a grid whose cells lose accuracy as a curve says."""

    def __init__(self, curve, reachable=math.inf):
        self.args = {"task": "detect", "epochs": 50}
        self.curve, self.reachable = curve, reachable
        self.cells = []

    def run(self, grid, cells):
        reports = {}
        for cell in cells:
            reports |= self.run_cell(cell)
        return reports

    def run_cell(self, cell):
        target = cell.keys["speed_up"]
        if target > self.reachable:
            raise OutOfReachError(f"'speed_up={target}' cannot be reached.", self.reachable)
        self.cells.append(cell)
        tuned = {"mAP50-95": self.curve(target), "weights": f"{cell.name}.pt"}
        rows = {"dense": {"mAP50-95": 0.5}, "fine-tuned": tuned}
        return {cell.name: {"rows": rows, "imgsz": 640}}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Return what makes a search on a curve and returns its outcome and the cells."""

    def make(curve, max_drop, resumed=False, count=1, **keys):
        grid = Fake(curve, **keys)
        monkeypatch.setattr(searching, "run_cells", grid.run)
        return try_targets(grid, max_drop, Tries(tmp_path, resumed), count), grid.cells

    return make


def test_the_largest_target_that_keeps_the_accuracy_is_found(fake):
    outcome, cells = fake(lambda s: 0.5 - 0.01 * math.log2(s), max_drop=1.9)
    assert [cell.keys for cell in cells] == [{"speed_up": s, "epochs": 50} for s in (2.0, 4.0, 2.83, 3.36)]
    assert outcome.best == 3.36 and outcome.lost(outcome.best) <= 1.9


def test_a_search_of_an_earlier_version_goes_on_without_its_short_tries(fake, tmp_path):
    rows = [(2.0, True), (2.0, False), (4.0, False), (2.83, True)]
    tries = [{"speed_up": target, "whole": whole, "max_drop": 1.9} for target, whole in rows]
    YAML.save(tmp_path / TRIES_FILE, {"tries": tries})
    outcome, cells = fake(lambda s: 0.5 - 0.01 * math.log2(s), max_drop=1.9, resumed=True)
    assert [*outcome.found] == [2.0, 2.83, 5.66, 4.0] and outcome.best == 2.83
    assert [row["speed_up"] for row in YAML.load(tmp_path / TRIES_FILE)["tries"]] == [*outcome.found]


def test_another_accuracy_knows_what_was_tried_and_tries_as_many_more(fake):
    curve = lambda s: 0.5 - 0.01 * math.log2(s)  # noqa: E731
    first, before = fake(curve, max_drop=1.9)
    again, same = fake(curve, max_drop=1.9, resumed=True)
    assert again.found == first.found and [c.name for c in same] == [c.name for c in before]
    second, cells = fake(curve, max_drop=0.5, resumed=True)
    assert [cell.name for cell in cells[: len(before)]] == [cell.name for cell in before]
    assert 0 < len(cells) - len(before) <= TRIES
    assert 1.25 < second.best < 2**0.5 and first.found.items() < second.found.items()
    third, _ = fake(curve, max_drop=1.0, resumed=True)
    assert third.best == 2.0 and third.found.keys() >= second.found.keys()
    anew, cells = fake(curve, max_drop=1.9)
    assert anew.found == first.found and len(cells) == len(before)


def test_what_another_search_has_found_is_found_again(fake):
    fake(lambda s: 0.5 - 0.01 * math.log2(s), max_drop=0.3)
    outcome, _ = fake(lambda s: 0.5 - 0.01 * math.log2(s), max_drop=0, resumed=True)
    assert outcome.best == min(outcome.found)


def test_a_target_out_of_reach_is_a_bound(fake, log):
    outcome, cells = fake(lambda s: 0.5, max_drop=0, reachable=2.719)
    assert outcome.best == 2.71
    assert "The search goes up to 2.71." in log.text
    outcome, cells = fake(lambda s: 0.5, max_drop=0, reachable=1.6)
    assert [cell.keys["speed_up"] for cell in cells] == [1.6]
    with pytest.raises(OutOfReachError):
        fake(lambda s: 0.5, max_drop=0, reachable=1.05)


def test_a_wish_that_cannot_be_met_names_the_nearest(fake, log, tmp_path):
    outcome, _ = fake(lambda s: 0.49 - 0.01 * s, max_drop=0.5)
    assert best_target(outcome.found, outcome.wanted) is None
    nearest = outcome.best
    assert nearest == min(outcome.found) < 2
    tell(outcome, {"met": False, "weights": "nearest.pt", "imgsz": 640}, tmp_path)
    assert f"no try is accurate enough. The nearest, speed_up={nearest:g} loses" in log.text
    assert "of at most 0.5 points of mAP50-95: nearest.pt. Fine-tune with more 'epochs'" in log.text


def test_a_metric_that_is_exactly_what_is_wanted_is_enough(fake):
    outcome, _ = fake(lambda s: 0.5 if s <= 2 else 0.3, max_drop=0)
    assert outcome.best == 2.0 and outcome.found[outcome.best] >= outcome.wanted


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize(("slope", "max_drop"), [(0.01, 1.9), (0.01, 0.3), (0.05, 0.5), (0.001, 1.0)])
def test_tries_ahead_change_nothing_but_how_many_are_made_at_once(fake, monkeypatch, slope, max_drop, count):
    def curve(target):
        return 0.5 - slope * math.log2(target)

    batches = []
    run = Fake.run
    monkeypatch.setattr(Fake, "run", lambda self, grid, cells: batches.append(cells) or run(self, grid, cells))
    alone, one_by_one = fake(curve, max_drop)
    assert len(batches) == len(one_by_one)
    batches.clear()
    ahead, made = fake(curve, max_drop, count=count)
    assert ahead.found == alone.found and list(ahead.reports) == list(alone.reports) and ahead.best == alone.best
    assert len({cell.name for cell in made}) == len(made)  # none twice
    assert max(map(len, batches)) <= count and len(batches) <= len(one_by_one) - (count > 2)
    for cells in batches:
        assert [cell.keys["speed_up"] for cell in cells] == sorted(
            (cell.keys["speed_up"] for cell in cells), reverse=True
        )


@pytest.mark.parametrize("reachable", [2.719, 3.8, 4.1, 9.0])
def test_a_try_ahead_that_is_out_of_reach_is_a_bound(fake, reachable):
    alone, _ = fake(lambda s: 0.5, max_drop=0, reachable=reachable)
    for count in (2, 4, 8):
        ahead, cells = fake(lambda s: 0.5, max_drop=0, reachable=reachable, count=count)
        assert ahead.found == alone.found
    bound = math.floor(100 * reachable) / 100
    assert alone.best == (4.0 if reachable == 4.1 else bound)  # 4.1 is not told apart


def test_what_is_called_reachable_and_is_not_ends_the_search_nevertheless(fake, monkeypatch):
    def refuse(self, cell):
        raise OutOfReachError("no", 2.5)

    monkeypatch.setattr(Fake, "run_cell", refuse)
    with pytest.raises(OutOfReachError):
        fake(lambda s: 0.5, max_drop=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"grace_period": 2}, "'grace_period=2' is invalid with 'max_drop=1': a search compares"),
        ({"storage_path": "s3://bucket/x"}, "'storage_path=s3://bucket/x' is invalid with 'max_drop=1'"),
        ({"storage_path": "ftp://x"}, "'storage_path=ftp://x' is an invalid value"),
    ],
)
def test_settings_of_ray_that_a_search_cannot_use_are_refused(settings, tmp_path, monkeypatch, keys, message):
    monkeypatch.setattr(cluster, "RAY_PACKAGES", [])
    del settings["speed_up"]
    with pytest.raises(ValueError, match=message):
        YOLO(settings["model"]).compress(**settings, max_drop=1, use_ray=True, **keys)
    assert not any(tmp_path.iterdir())
