# SPDX-License-Identifier: AGPL-3.0-or-later
"""Sparsity training: a stock training with one term more, and a stage of the pipeline."""

import csv
import json
import logging
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Interrupted, also_slow, interrupt, needs, save_dense, set_up

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.engine.compress.sparsifier import SHARE_STEP
from ultralytics.engine.compress.sparsity_strength import reach
from ultralytics.engine.pruning.report.sparsity_plot import BINS, append_distribution, read_distribution
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune, DetectionSparsifier
from ultralytics.models.yolo.detect.val import DetectionValidator
from ultralytics.utils import LOGGER

SLIM = {"prune_method": "slim", "reg": 0.04, "reg_decay": 0.05}


def rows_of(run):
    with open(run / "results.csv") as f:
        return [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(f)]


@pytest.mark.parametrize("method", also_slow(["slim", "growing_reg"], ["group_slim", "group_sl"]))
def test_each_method_trains_and_writes_its_figures(settings, method):
    trainer = DetectionSparsifier(overrides={**settings, "prune_method": method, "name": "s", "plots": True})
    trainer.train()
    rows = rows_of(trainer.save_dir)
    assert len(rows) == 2 and all(0 <= row["sparsity/share_small"] <= 1 for row in rows)
    assert all(row["sparsity/p10"] <= row["sparsity/p50"] <= row["sparsity/p90"] for row in rows)
    epochs, edges, shares = read_distribution(trainer.save_dir / "sparsity.csv")
    assert epochs.tolist() == [1, 2] and len(edges) == BINS
    assert shares.sum(1) == pytest.approx([1, 1], abs=1e-3)
    assert (trainer.save_dir / "sparsity.png").stat().st_size > 10_000
    assert (trainer.save_dir / "results.png").exists()


def test_another_run_in_the_same_folder_begins_anew(settings):
    for epochs in (2, 1):
        keys = {"prune_method": "slim", "name": "again", "exist_ok": True, "epochs": epochs}
        trainer = DetectionSparsifier(overrides={**settings, **keys})
        trainer.train()
    assert (
        read_distribution(trainer.save_dir / "sparsity.csv")[0].tolist() == [1] and len(rows_of(trainer.save_dir)) == 1
    )


@needs("SGD without momentum")
def test_regulariser_acts_once_an_optimizer_step(settings):
    """With plain SGD the first step differs from an unregularised one by lr · reg · sign(γ), whatever the batches."""
    plain = {**settings, "optimizer": "SGD", "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0, "epochs": 1}
    scales = {}
    for reg in (0.0, 0.5):
        overrides = {**plain, "prune_method": "slim", "reg": reg, "name": f"r{reg}", "lr0": 0.1, "nbs": 8, "batch": 4}
        trainer = DetectionSparsifier(overrides=overrides)
        trainer.train()
        norms = list(trainer.regulariser.units.weights(trainer.model, norms_only=True))
        scales[reg] = torch.cat([weight.detach() for _, weight in norms])
        held = torch.cat([share.unit < len(trainer.regulariser.units) for share, _ in norms])
        assert trainer.accumulate == 2 and trainer.ema.updates == 1  # two batches of 4, one step
    torch.testing.assert_close(scales[0.0] - scales[0.5], 0.05 * held.float(), rtol=1e-3, atol=1e-5)


def test_a_short_training_steps_after_each_batch(settings):
    for nbs, gathered in ((64, 1), (8, 2)):
        trainer = DetectionSparsifier(overrides={**settings, **SLIM, "name": f"o{nbs}", "nbs": nbs})
        set_up(trainer)
        assert trainer.accumulate == gathered and trainer.args.nbs == gathered * settings["batch"]


@needs("SGD without momentum")
def test_best_is_the_fittest_of_the_sparsest(settings, log):
    overrides = {**settings, **SLIM, "epochs": 8, "reg": 6.0, "name": "b", "nbs": 4}
    overrides |= {"optimizer": "SGD", "lr0": 0.05, "momentum": 0.0, "warmup_epochs": 0}
    trainer = DetectionSparsifier(overrides=overrides)
    trainer.train()
    rows = rows_of(trainer.save_dir)
    keys = [(row["sparsity/share_small"] // SHARE_STEP, row["metrics/mAP50-95(B)"]) for row in rows]
    assert keys[-1][0] > keys[0][0] and "units are small" not in log.text
    best = max(range(len(rows)), key=lambda i: (keys[i], i))
    written = torch.load(trainer.best, weights_only=False)["train_metrics"]
    assert written["sparsity/share_small"] == pytest.approx(rows[best]["sparsity/share_small"], rel=1e-4)
    assert written["sparsity/p50"] == pytest.approx(rows[best]["sparsity/p50"], rel=1e-4)


FOUND = [(0.10, 0.9), (0.551, 0.2), (0.553, 0.4), (0.555, 0.3), (0.52, 0.8)]  # share of small scales, fitness


class ScriptedValidator(DetectionValidator):
    """Finds a given fitness, for epochs too few to learn anything."""

    def __call__(self, trainer=None, model=None):
        found = super().__call__(trainer, model)
        return {**found, "fitness": FOUND[trainer.epoch][1]} if trainer else found


class ScriptedSparsifier(DetectionSparsifier):
    """Finds a given share of small scales, too."""

    def get_validator(self):
        validator = super().get_validator()
        validator.__class__ = ScriptedValidator
        return validator

    def figures(self):
        return {**super().figures(), "sparsity/share_small": FOUND[self.epoch][0]}


def test_best_is_the_fittest_among_equally_sparse(settings):
    """Neither the fittest nor the sparsest of all, nor the last: shares in the same step are equally sparse."""
    trainer = ScriptedSparsifier(overrides={**settings, **SLIM, "epochs": len(FOUND), "name": "f"})
    trainer.train()
    shares = [row["sparsity/share_small"] for row in rows_of(trainer.save_dir)]
    assert shares == pytest.approx([share for share, _ in FOUND])
    written = torch.load(trainer.best, weights_only=False)["train_metrics"]
    assert written["sparsity/share_small"] == FOUND[2][0]


def train_and_note(trainer):
    """Train by SGD with a momentum of 0.9; return how far each step moves a scale that nothing else pulls."""
    moved = []

    def add(optimizer, *_):
        norm = trainer.model.model[0].bn.weight
        group = next(group for group in optimizer.param_groups if any(p is norm for p in group["params"]))
        moved.append(group["lr"] * trainer.strength / (1 - 0.9))

    trainer.add_callback("on_train_start", lambda t: t.optimizer.register_step_pre_hook(add))
    trainer.train()
    return moved


@pytest.mark.parametrize("keys", [{"warmup_epochs": 0}, {"warmup_epochs": 1.0, "epochs": 3, "reg_decay_type": "step"}])
def test_training_that_makes_nothing_small_names_the_strength_that_would(settings, log, keys):
    plain = {"prune_method": "slim", "reg": 0.001, "optimizer": "SGD", "momentum": 0.9, "lr0": 0.01, "nbs": 4}
    trainer = DetectionSparsifier(overrides={**settings, **plain, "reg_decay_step": 1, "name": "w", **keys})
    moved = train_and_note(trainer)
    assert len(moved) == 2 * trainer.epochs == trainer.ema.updates
    assert reach(trainer) * 0.001 == pytest.approx(sum(moved), rel=0.01)
    needed = 1 / reach(trainer)
    assert f"after {len(moved)} optimizer steps" in log.text and f"set reg={needed:.2g} instead of 0.001" in log.text


@pytest.mark.parametrize(("method", "enough"), [("slim", 1.3), ("group_slim", 1.3), ("group_sl", 0.5)])
def test_strength_is_what_the_steps_need_unless_it_is_given(settings, log, method, enough):
    plain = {"optimizer": "SGD", "momentum": 0.9, "lr0": 0.01, "nbs": 8, "warmup_epochs": 1.0, "epochs": 4}
    trainer = DetectionSparsifier(overrides={**settings, **plain, "prune_method": method, "name": "auto"})
    moved = train_and_note(trainer)
    assert sum(moved) == pytest.approx(enough, rel=0.01)
    assert f"reg={rows_of(trainer.save_dir)[0]['sparsity/reg']:.2g} for some" in log.text


def test_growth_is_what_the_steps_need_unless_it_is_given(settings):
    keys = {"prune_method": "growing_reg", "nbs": 4, "epochs": 3, "name": "auto"}
    trainer = DetectionSparsifier(overrides={**settings, **keys})
    trainer.train()
    assert trainer.ema.updates == 6 and trainer.strength == pytest.approx(0.6)


def test_training_that_makes_nothing_small_names_what_else_there_is(settings, log):
    cases = {
        "growing_reg": ({"delta_reg": 1e-4}, "set delta_reg=0.05 instead of 0.0001"),
        "slim": ({"optimizer": "AdamW"}, "optimizer=AdamW rescales the regulariser's gradient: set optimizer=SGD"),
    }
    for method, (keys, text) in cases.items():
        overrides = {**settings, "prune_method": method, "name": method, "nbs": 4, **keys}
        DetectionSparsifier(overrides=overrides).train()
        assert text in log.text


def test_growing_strength_follows_the_optimizer_steps(settings):
    overrides = {**settings, "prune_method": "growing_reg", "reg": 0.5, "delta_reg": 0.01, "nbs": 4, "name": "g"}
    trainer = DetectionSparsifier(overrides=overrides)
    trainer.train()
    assert [row["sparsity/reg"] for row in rows_of(trainer.save_dir)] == pytest.approx([0.52, 0.54])  # 2 steps an epoch


def test_article_style_slim(settings, tmp_path):
    """The recipe's own keys for slim: the stages follow each other, and the hyperparameters stay in theirs."""
    param_dict = {
        **settings, **SLIM, "optimizer": "AdamW", "lr0": 0.003, "close_mosaic": 1, "name": "exp", "sl_epochs": 3,
        "sl_hyp": "ultralytics/cfg/hyp.scratch.sl.yaml", "sl_model": None, "reg_decay_type": "linear",
        "reg_decay_step": 10, "delta_reg": 1e-4, "max_sparsity": 1.0, "iterative_steps": 200,
    }  # fmt: skip
    path = DetectionCompressor(overrides={**param_dict, "name": "exp-prune"}).compress()
    DetectionFinetune(overrides={**param_dict, "model": path, "name": "exp-finetune"}).train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exp-finetune", "exp-prune", "exp-sparsify"]
    sparse, tuned = (YAML.load(tmp_path / f"exp-{stage}" / "args.yaml") for stage in ("sparsify", "finetune"))
    hyp = YAML.load(ROOT / "ultralytics/cfg/hyp.scratch.sl.yaml")
    assert {k: sparse[k] for k in hyp} == hyp and sparse["epochs"] == 3
    assert (tuned["lr0"], tuned["optimizer"], tuned["epochs"]) == (0.003, "AdamW", 2)
    report = json.loads((tmp_path / "exp-finetune" / "report.json").read_text())
    assert list(report["rows"]) == ["dense", "sparse", "pruned", "fine-tuned"]
    record = load_checkpoint(path)[0].pruning
    assert record["prune_method"] == "slim"
    # the dense model teaches, as without a sparsity training, not what that has made of it
    assert record["source"]["path"] == str(Path(settings["model"]).resolve())
    if HAS_DISTILLATION:
        assert tuned["distill_model"] == record["source"]["path"]


def test_sl_model_takes_the_place_of_the_training(settings, tmp_path):
    sparsifier = DetectionSparsifier(overrides={**settings, **SLIM, "name": "s"})
    sparsifier.train()
    overrides = {**settings, **SLIM, "name": "m-prune", "sl_model": str(sparsifier.best)}
    path = DetectionCompressor(overrides=overrides).compress()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m-prune", "s"]
    assert load_checkpoint(path)[0].pruning["source"]["path"] == str(Path(settings["model"]).resolve())


def test_resume_continues_within_sparsity_training(settings, tmp_path):
    def interrupt(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    overrides = {**settings, "prune_method": "growing_reg", "sl_epochs": 3, "epochs": 1, "name": "r", "delta_reg": 0.01}
    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        model.compress(**overrides)
    YOLO(settings["model"]).compress(**overrides, resume=True)
    rows = rows_of(tmp_path / "r-sparsify")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    strengths = [row["sparsity/reg"] for row in rows]
    assert strengths == sorted(strengths) and strengths[0] < strengths[2]  # it grows on from where it was
    assert read_distribution(tmp_path / "r-sparsify" / "sparsity.csv")[0].tolist() == [1, 2, 3]


def test_units_of_a_target_are_chosen_once(settings, tmp_path):
    overrides = {**settings, "prune_method": "growing_reg", "sl_epochs": 2, "epochs": 1, "name": "c"}
    model = YOLO(settings["model"])
    model.add_callback("on_fit_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        model.compress(**overrides)
    file = tmp_path / "c-sparsify" / "doomed.pt"
    chosen = torch.load(file)
    assert 0 < chosen.sum() < len(chosen)
    torch.save(~chosen, file)
    used = []
    model = YOLO(settings["model"])
    model.add_callback("on_train_start", lambda trainer: used.append(getattr(trainer, "regulariser", None)))
    model.compress(**overrides, resume=True)
    assert torch.equal(used[0].doomed, ~chosen)  # read, not chosen anew


def test_columns_stay_in_place_without_validation(settings):
    trainer = DetectionSparsifier(overrides={**settings, **SLIM, "name": "v", "val": False})
    trainer.train()
    rows = rows_of(trainer.save_dir)
    assert [row["sparsity/reg"] for row in rows] == pytest.approx([0.04, 0.002])


@needs("recovery of a training whose loss alone is not finite")
def test_nan_follows_ultralytics_recovery(settings, caplog):
    """One broken epoch: the trainer goes back to last.pt, says so, and goes on."""
    trainer = DetectionSparsifier(overrides={**settings, **SLIM, "epochs": 3, "name": "n", "nbs": 4})
    broken = []

    def break_once(t):
        t.prune_args.reg = 0.04
        if t.epoch == 1 and not broken:
            broken.append(t.epoch)
            t.prune_args.reg = float("nan")

    trainer.add_callback("on_train_epoch_start", break_once)
    LOGGER.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING, logger=LOGGER.name):
        trainer.train()
    LOGGER.removeHandler(caplog.handler)
    assert "recovering from last.pt" in caplog.text
    assert [row["epoch"] for row in rows_of(trainer.save_dir)] == [1, 2, 3]
    assert all(torch.isfinite(p).all() for p in load_checkpoint(trainer.best)[0].parameters())


def test_a_training_that_has_diverged_is_not_taken_for_complete_when_it_is_resumed(settings, tmp_path):
    keys = {**settings, **SLIM, "epochs": 1, "sl_epochs": 1, "reg": 1e36, "reg_decay_type": "constant", "name": "d"}
    for resume in (False, True):
        with pytest.raises(ValueError, match="has diverged. Train it again, without 'resume', with a lower 'reg'"):
            YOLO(settings["model"]).compress(**keys, resume=resume)
        assert not [*(tmp_path / "d-sparsify" / "weights").iterdir()]


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"sl_epochs": 0}, ValueError, "'prune_method=slim' needs sparsity training but 'sl_epochs=0'"),
        ({"sl_epochs": 1, "data": None}, ValueError, "'data=None' is invalid"),
        ({"sl_epochs": 1, "reg": -0.1}, ValueError, "'reg=-0.1' is an invalid value"),
        ({"sl_epochs": 1, "reg_decay_type": "cosine"}, ValueError, "'reg_decay_type=cosine' is invalid. Valid"),
        ({"sl_epochs": 1, "sl_hyp": "nowhere.yaml"}, FileNotFoundError, "'sl_hyp=nowhere.yaml' does not exist"),
        (
            {"sl_epochs": 1, "prune_method": "growing_reg", "sensitivity_drop": 0.1},
            ValueError,
            "'sensitivity_drop=0.1' does not go with 'prune_method=growing_reg'",
        ),
        ({"sl_model": "nowhere.pt"}, FileNotFoundError, "'sl_model=nowhere.pt' does not exist"),
        ({"sl_model": "yolov8n.yaml"}, ValueError, "'sl_model' must be a .pt file"),
    ],
)
def test_bad_input_is_refused_before_work(settings, tmp_path, keys, error, message):
    with pytest.raises(error, match=message):
        DetectionCompressor(overrides={**settings, "prune_method": "slim", "name": "x-prune", **keys})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("lr9: 0.1", SyntaxError, r"'sl_hyp=.*hyp.yaml' is invalid: .*'.*lr9.*' is not a valid YOLO argument"),
        ("lr0: fast", TypeError, r"'sl_hyp=.*hyp.yaml' is invalid: .*lr0"),
        ("- lr0", ValueError, r"'sl_hyp=.*hyp.yaml' is invalid: .* is not a valid YAML mapping"),
    ],
)
def test_bad_hyperparameters_are_refused_before_work(settings, tmp_path, content, error, message):
    (tmp_path / "hyp.yaml").write_text(content)
    overrides = {**settings, **SLIM, "sl_epochs": 1, "sl_hyp": str(tmp_path / "hyp.yaml"), "name": "x-prune"}
    with pytest.raises(error, match=message):
        DetectionCompressor(overrides=overrides)
    assert [p.name for p in tmp_path.iterdir()] == ["hyp.yaml"]


@pytest.mark.parametrize("model", ["best_pt", "yolov8n.yaml"])
def test_sl_model_of_another_architecture_is_refused(settings, tmp_path, model):
    other = save_dense(YOLO("yolov8s.yaml"), tmp_path / "other.pt")
    keys = {"sl_model": other, "model": settings["model"] if model == "best_pt" else model}
    with pytest.raises(ValueError, match="is of another architecture than 'model="):
        DetectionCompressor(overrides={**settings, **SLIM, **keys, "name": "x-prune"})


def test_method_without_sparsity_training_is_refused(settings):
    with pytest.raises(ValueError, match="'prune_method=group_taylor' has no sparsity training. .* slim, "):
        DetectionSparsifier(overrides={**settings, "name": "l"})


def test_distribution_keeps_the_bins_of_the_first_epoch(tmp_path):
    file = Path(tmp_path / "sparsity.csv")
    append_distribution(file, 1, torch.tensor([0.0, 0.5, 1.0, 2.0]))
    append_distribution(file, 2, torch.tensor([0.0, 0.0, 0.0, 5.0]))  # beyond the last bin
    append_distribution(file, 2, torch.tensor([0.0, 0.0, 2.0, 5.0]))  # the epoch again
    epochs, edges, shares = read_distribution(file)
    assert epochs.tolist() == [1, 2] and edges[-1] == 2
    assert shares[0, 0] == 0.25 and shares[0, -1] == 0.25
    assert shares[1, 0] == 0.5 and shares[1, -1] == 0.5
