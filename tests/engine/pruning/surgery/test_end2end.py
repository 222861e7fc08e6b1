# SPDX-License-Identifier: AGPL-3.0-or-later
"""Heads that need no NMS can be switched to the branch that does, after pruning as before."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model, needs

from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import masked

pytestmark = needs("heads to switch between branches")
IMAGE = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))


def run(model, end2end):
    """Return the decoded and the raw outputs in one of the modes."""
    model.end2end = end2end
    assert model.end2end == end2end
    with torch.no_grad():
        return model(IMAGE)


def by_branch(raw):
    """Return raw outputs by branch: without the one, older releases return those of the other alone."""
    return {"one2many": raw} if "boxes" in raw else raw


@pytest.fixture(scope="module", params=["yolov10n", "yolo26n", "yolo26n-seg"])
def pair(request):
    """The masked dense model, and the pruned one."""
    dense = build_model(request.param)
    pruned, record = prune_model(dense, Budget(2), prune_method="lamp")
    return masked(dense, record), pruned


@pytest.mark.parametrize("end2end", [False, True])
def test_pruned_equals_masked_in_both_modes(pair, end2end):
    (expected, raw_expected), (actual, raw) = (run(model, end2end) for model in pair)
    found, wanted = by_branch(raw), by_branch(raw_expected)
    assert found.keys() == wanted.keys() and (len(found) == 2 or "boxes" in raw)
    for branch in wanted:
        for name in ("boxes", "scores"):
            torch.testing.assert_close(found[branch][name], wanted[branch][name], rtol=1e-4, atol=1e-4)
    actual, expected = (y[0] if isinstance(y, tuple) else y for y in (actual, expected))  # and masks' prototypes
    if end2end:  # the best in order of their scores, among which rounding may swap near ties
        actual, expected = actual[..., 4], expected[..., 4]
    else:
        assert expected.shape[-1] == 24**2 + 12**2 + 6**2  # every cell, for NMS to choose from
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("end2end", [False, True])
def test_pruned_keeps_the_chosen_branch_when_fused(pair, end2end):
    _, pruned = pair
    _, expected = run(pruned, end2end)
    fused = deepcopy(pruned).fuse(verbose=False)
    with torch.no_grad():
        decoded, raw = fused(IMAGE)
    branch = by_branch(expected)["one2one" if end2end else "one2many"]
    left = raw["one2one"] if end2end else raw
    for name in ("boxes", "scores"):
        torch.testing.assert_close(left[name], branch[name], rtol=1e-3, atol=1e-3)
    assert fused.end2end == end2end
