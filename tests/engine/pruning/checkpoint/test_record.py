# SPDX-License-Identifier: AGPL-3.0-or-later
"""The record of a cut is read in one place, whoever has written it."""

from dataclasses import fields

import pytest

from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.classes import renew_classes
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.checkpoint.record import SCHEMA, Record
from ultralytics.engine.pruning.prune import prune_model

OLD = ("method", "budget", "target", "reached", "global_pruning", "round_to", "max_sparsity", "gflops", "parameters")
OLD += ("seconds", "left_dense", "channels", "recalibrated", "run", "source", "versions", "date", "yaml")


@pytest.fixture(scope="module")
def record(yolov8n):
    """A record of a real cut."""
    return prune_model(yolov8n, Budget(2), prune_method="lamp")[1]


def test_what_is_written_is_read(record):
    assert Record.from_dict(record.to_dict()) == record
    assert record.schema == SCHEMA and record.versions["ultralytics-compress"] == __version__
    assert {*record.versions} == {"ultralytics-compress", "ultralytics", "torch", "torch-pruning"}


def test_record_of_the_first_version_is_read(record):
    values = {**record.to_dict(), "method": record.prune_method, "source": {"path": "a.pt", "sha256": "0"}}
    old = Record.from_dict({name: values[name] for name in OLD})
    assert (old.prune_method, old.schema, old.source["path"]) == ("lamp", SCHEMA, "a.pt")
    assert old.channels == record.channels


def test_record_of_a_newer_version_is_refused(record):
    with pytest.raises(ValueError, match=rf"schema {SCHEMA + 1}.*reads up to {SCHEMA}.*Update ultralytics-compress"):
        Record.from_dict({**record.to_dict(), "schema": SCHEMA + 1, "something": "new"})


@pytest.mark.parametrize("name", [f.name for f in fields(Record) if f.name != "schema"])
def test_field_of_another_type_is_refused(record, name):
    for damaged in (None, [1], object()):
        with pytest.raises(ValueError, match=f"record is damaged: '{name}'"):
            Record.from_dict({**record.to_dict(), name: damaged})


@pytest.mark.parametrize("name", ["gflops", "parameters", "left_dense", "channels", "source", "versions"])
def test_contents_of_another_type_are_refused(record, name):
    with pytest.raises(ValueError, match=f"record is damaged: '{name}'"):
        Record.from_dict({**record.to_dict(), name: {"a": b"bytes"}})


def test_missing_field_is_refused(record):
    values = record.to_dict()
    del values["channels"]
    with pytest.raises(ValueError, match=r"record is damaged: .*'channels'.*Prune the dense model again"):
        Record.from_dict(values)


def test_a_model_that_was_pruned_twice_has_the_classes_of_the_training_in_between(yolov8n, tmp_path):
    save_pruned(tmp_path / "prune.pt", *prune_model(yolov8n, Budget(1.5), prune_method="l1"))
    pruned = load_checkpoint(tmp_path / "prune.pt")[0].float()
    renew_classes(pruned, 7)
    again, record = prune_model(pruned, Budget(1.5), prune_method="l1")
    assert again.yaml["nc"] == record.yaml["nc"] == again.model[-1].nc == 7
