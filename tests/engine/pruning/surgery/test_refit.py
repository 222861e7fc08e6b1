# SPDX-License-Identifier: AGPL-3.0-or-later
"""A pruned network whose convolutions are fitted again computes what is nearer to the dense one."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import build_model
from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning import Record, prune_model
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.surgery.refit import _patches, least_squares, refit
from ultralytics.models.yolo.detect.compress import DetectionCompressor

NOTHING_LOST = Record("lamp", 1.0, 1.0, True, 1, 1.0, {}, {}, 0.0, {}, channels={}, yaml={})
IMAGES = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def settle(model: nn.Module) -> nn.Module:
    """Give an untrained model the statistics of its batch norms, so that its features are not those of noise alone."""
    model = deepcopy(model)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.momentum = None
            m.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(IMAGES)
    return model.eval()


def fitted_in(log) -> int:
    """Return how many convolutions were fitted, as the log says."""
    (count,) = re.findall(r"(\d+) convolutions were fitted", log.text)
    return int(count)


def error(model: nn.Module, dense: nn.Module) -> float:
    """Return how far the head's outputs are from the dense ones, as a share of their variance."""
    outputs = []
    for net in (model, dense):
        found, head = [], net.model[-1]
        predict = [m for m in head.modules() if isinstance(m, nn.Conv2d) and m.bias is not None and m.groups == 1]
        hooks = [m.register_forward_hook(lambda _, __, output, found=found: found.append(output)) for m in predict]
        with torch.no_grad():
            net(IMAGES)
        for hook in hooks:
            hook.remove()
        outputs.append(found)
    shares = [(a - b).square().mean() / b.var() for a, b in zip(*outputs)]
    assert shares
    return float(torch.stack(shares).mean())


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2)])
def test_least_squares_find_the_weights_that_made_the_outputs(groups, kernel, stride):
    torch.manual_seed(0)
    truth, layer = (nn.Conv2d(6, 12, kernel, stride, kernel // 2, groups=groups) for _ in range(2))
    x = torch.randn(4, 6, 16, 16)
    y = truth(x).detach().movedim(1, -1).flatten(0, 2)
    pixels = torch.arange(len(y))[::2]
    patches = _patches(layer, x, pixels)
    assert patches.shape == (len(pixels), groups, 6 // groups * kernel**2)
    weight, shift = least_squares(layer, patches, y[pixels])
    torch.testing.assert_close(weight, truth.weight.detach(), atol=5e-3, rtol=0)
    torch.testing.assert_close(shift, truth.bias.detach(), atol=5e-3, rtol=0)


def test_inputs_that_say_nothing_leave_the_weights_as_they_are():
    layer = nn.Conv2d(3, 4, 1)
    weight, shift = least_squares(layer, torch.ones(50, 1, 3), torch.arange(4.0).expand(50, 4))
    torch.testing.assert_close(weight, layer.weight.detach())
    torch.testing.assert_close(weight.flatten(1).sum(1) + shift, torch.arange(4.0))


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolov10n", "yolo26n"])
def test_outputs_come_nearer_to_the_dense_ones(name, log):
    dense = settle(build_model(name))
    pruned, record = prune_model(dense, Budget(2.0), prune_method="l1")
    before, count = error(pruned, dense), len([m for m in pruned.modules() if type(m) is nn.Conv2d])
    record = refit(dense, pruned, record, IMAGES)
    fitted = fitted_in(log)
    assert record.refitted and count - 1 <= fitted <= count  # the one that integrates box sides has no bias, no norm
    assert error(pruned, dense) < 0.7 * before
    assert not pruned.training


def test_a_model_that_has_lost_nothing_stays_as_it_is(yolov8n, log):
    dense = settle(yolov8n)
    same = deepcopy(dense)
    refit(dense, same, NOTHING_LOST, IMAGES)
    assert fitted_in(log) > 60
    assert error(same, dense) < 1e-2


class Shared(nn.Module):
    """A network of convolutions of which one is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.last = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x):
        return self.last(self.twice(self.twice(self.first(x))))


def test_what_is_called_twice_or_was_scaled_is_left_alone(log):
    dense = Shared()
    pruned = deepcopy(dense)
    with torch.no_grad():
        pruned.last.weight *= 2  # as queries are, which make up for a root
    before = deepcopy(pruned.state_dict())
    refit(dense, pruned, NOTHING_LOST, torch.rand(2, 3, 8, 8))
    assert fitted_in(log) == 1
    assert all(torch.equal(before[key], value) for key, value in pruned.state_dict().items() if "first" not in key)


def test_a_grouped_convolution_that_lost_the_same_of_every_group_is_left_alone(log):
    dense = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, groups=2))
    pruned, kept = deepcopy(dense), [0, 1, 4, 5]
    pruned[0] = nn.Conv2d(3, 4, 1)
    pruned[0].weight.data, pruned[0].bias.data = dense[0].weight.data[kept], dense[0].bias.data[kept]
    pruned[1] = nn.Conv2d(4, 4, 3, groups=2)
    pruned[1].weight.data, pruned[1].bias.data = dense[1].weight.data[:, :2], dense[1].bias.data
    channels = {"0": {"out": kept, "in": [0, 1, 2]}, "1": {"out": [0, 1, 2, 3], "in": kept}}
    refit(dense, pruned, replace(NOTHING_LOST, channels=channels), torch.rand(2, 3, 8, 8))
    assert fitted_in(log) == 1 and torch.equal(pruned[1].weight, dense[1].weight[:, :2])


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_that_is_named_is_left_alone(padding, log):
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.Conv2d(4, 4, 1))
    pruned = deepcopy(dense)
    refit(dense, pruned, NOTHING_LOST, torch.rand(2, 3, 8, 8))
    assert fitted_in(log) == 1 and torch.equal(pruned[0].weight, dense[0].weight)


def test_it_is_a_stage_of_a_run_that_asks_for_it(settings, log):
    dense = load_checkpoint(settings["model"])[0].float().model[3].conv.weight
    for flag in (False, True):
        run = DetectionCompressor(overrides={**settings, "name": f"r-{flag}", "refit": flag})
        run._prune(Path(settings["model"]))
        pruned = load_checkpoint(run.pruned)[0].float()
        assert pruned.pruning["refitted"] is flag
        kept = pruned.pruning["channels"]["model.3.conv"]
        slices = dense[kept["out"]][:, kept["in"]]
        assert torch.allclose(pruned.model[3].conv.weight, slices, atol=1e-3) is not flag
        assert ("convolutions were fitted to their outputs in the dense model" in log.text) is flag
