# SPDX-License-Identifier: AGPL-3.0-or-later
"""A model on a GPU that nobody needs to have: fake tensors on cuda raise wherever they meet others on the CPU.

Weights and activations are fake; index tensors on the CPU are real, so that what is cut is known.
"""

from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import build_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.sparsity.units import Units
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.engine.pruning.surgery.history import History
from ultralytics.engine.pruning.surgery.oracle import masked, raw_outputs
from ultralytics.engine.pruning.surgery.proof import _on_cpu
from ultralytics.engine.pruning.surgery.recalibration import recalibrate
from ultralytics.nn.extra_modules import prunable_copy, to_stock

FAKE = FakeTensorMode(allow_non_fake_inputs=True)


class FakeCuda(TorchFunctionMode):
    """Makes fake tensors where cuda is asked for, and leaves all else as it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = [str(a) for a in (*args, *kwargs.values()) if isinstance(a, (str, torch.device))]
        with FAKE if any(device.startswith("cuda") for device in devices) else nullcontext():
            return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def fake_cuda():
    """Also let `Module.to` and its like replace parameters, since fake ones cannot be changed in place."""
    torch.__future__.set_swap_module_params_on_conversion(False)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with FakeCuda():
        yield
    torch.__future__.set_overwrite_module_params_on_conversion(False)


def on_cuda(model: nn.Module) -> nn.Module:
    """Return a copy with fake weights on cuda; its counters of batches stay real, since batch norms compute with them."""
    fakes = {id(p): nn.Parameter(p.detach().to("cuda"), p.requires_grad) for p in model.parameters()}
    fakes |= {id(b): b.to("cuda") for b in model.buffers() if b.is_floating_point()}
    return deepcopy(model, fakes)


def devices(model: nn.Module) -> set[str]:
    return {t.device.type for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}


@pytest.fixture(scope="module", params=["yolov8n", "yolo11n", "yolo12n", "yolov9t", "yolov8n-seg"])
def pair(request):
    """A model on the CPU, and the same on cuda."""
    model = build_model(request.param)
    with FakeCuda():
        return model, on_cuda(model)


def test_mixing_devices_raises():
    """Else the other tests would prove nothing. Indices on the CPU are allowed, as on a real GPU."""
    weight = torch.ones(4, 2).to("cuda")
    with pytest.raises(RuntimeError, match="at least two devices"):
        weight + torch.ones(2)
    assert weight[torch.tensor([0, 2])].device.type == "cuda"


def units_of(model: nn.Module) -> list[torch.Tensor]:
    """Return the units that each group keeps, half of them in every group."""
    kept = []
    pruned = []
    return kept, pruned


def test_graph_cut_and_merge(pair):
    """The same cut as on the CPU: same groups, same widths, all weights still on cuda, and it runs."""
    cpu, cuda = pair
    _, record = prune_model(cpu, Budget(2.0, global_pruning=False), prune_method="l1")
    form = prunable_copy(cuda)
    graph, reference = Graph(form), Graph(prunable_copy(cpu))
    assert [g.name for g in graph.groups] == [g.name for g in reference.groups] and graph.sizes == reference.sizes
