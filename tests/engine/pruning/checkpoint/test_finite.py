# SPDX-License-Identifier: AGPL-3.0-or-later
"""Weights that are no numbers are neither pruned nor saved; those beyond FP16 are clamped."""

from copy import deepcopy

import pytest
import torch

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.prune import prune_model


@pytest.fixture(scope="module")
def cut(yolov8n):
    """A pruned model and its record."""
    return prune_model(yolov8n, Budget(1.5), prune_method="lamp")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["model.2.cv1.conv.weight", "model.2.cv1.bn.running_var"])
def test_model_that_is_not_finite_is_neither_pruned_nor_saved(yolov8n, cut, tmp_path, key, value):
    model, (pruned, record) = deepcopy(yolov8n), cut
    pruned = deepcopy(pruned)
    for broken in (model, pruned):
        broken.state_dict()[key].view(-1)[0] = value
    with pytest.raises(ValueError, match=f"the model has weights that are not finite, '{key}' first"):
        prune_model(model, Budget(1.5), prune_method="lamp")
    with pytest.raises(ValueError, match=f"the pruned model has weights that are not finite, '{key}' first.*'reg'"):
        save_pruned(tmp_path / "prune.pt", pruned, record)
    assert not list(tmp_path.iterdir())


def test_values_beyond_fp16_are_clamped(cut, tmp_path):
    pruned, record = deepcopy(cut[0]), cut[1]
    bias = pruned.model[0].bn.bias.data
    bias[:3] = torch.tensor([1e6, -1e6, 7.0])
    save_pruned(tmp_path / "prune.pt", pruned, record)
    saved = load_checkpoint(tmp_path / "prune.pt")[0].model[0].bn.bias
    assert saved[:3].tolist() == [65504.0, -65504.0, 7.0]
    assert bias[:3].tolist() == [1e6, -1e6, 7.0]  # the model given is left as it was
