# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cells are stopped early only behind others of the same target."""

from types import SimpleNamespace

import pytest

pytest.importorskip("ray", reason="needs the extra 'ray'")

from ultralytics.engine.compress.grid.early_stop import PerTarget

ACCURACIES = {"2x-a": 0.8, "2x-b": 0.7, "2x-c": 0.6, "4x-a": 0.3, "4x-b": 0.1}


def test_cells_compete_with_those_of_their_target():
    scheduler = PerTarget({name: name[:2] for name in ACCURACIES}, "metric", epochs=9, grace_period=3)
    trials = {name: SimpleNamespace(trial_id=name, config={"cell": name}) for name in ACCURACIES}
    stopped = {}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    for epoch in (1, 2, 3):
        for name, trial in trials.items():
            action = scheduler.on_trial_result(None, trial, {"epoch": epoch, "metric": ACCURACIES[name]})
            if action == scheduler.STOP:
                stopped[name] = epoch
    assert stopped == {"2x-b": 3, "2x-c": 3, "4x-b": 3}  # 4x-a is worse than all of 2x, and the best of 4x


def test_sparsity_trainings_and_final_reports_stop_nobody():
    scheduler = PerTarget({"a": 2, "b": 2}, "metric", epochs=3, grace_period=1)
    trials = {name: SimpleNamespace(trial_id=name, config={"cell": name}) for name in "ab"}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    scheduler.on_trial_result(None, trials["a"], {"epoch": 3, "metric": 0.9})
    sparsity = {"epoch": 1, "metric": 0.1, "sparsity/reg": 0.5}
    assert scheduler.on_trial_result(None, trials["b"], sparsity) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, trials["b"], {"best": "best.pt"}) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, trials["b"], {"epoch": 3, "metric": 0.95}) == scheduler.CONTINUE  # its last
