# SPDX-License-Identifier: AGPL-3.0-or-later
"""A model on a GPU that nobody needs to have: fake tensors on cuda raise where they meet others on the CPU.

Weights and activations are fake. Index tensors are real and on the CPU, which a GPU accepts, so that widths are known.
"""

from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from ultralytics.cfg.compress.compat.modules import AAttn
from ultralytics.engine.pruning.graph.groups import Graph
from ultralytics.engine.pruning.graph.image_size import example_image
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.sparsity.units import Units
from ultralytics.engine.pruning.surgery.cut import channels_to_keep, cut
from ultralytics.engine.pruning.surgery.history import History
from ultralytics.engine.pruning.surgery.oracle import masked, raw_outputs
from ultralytics.engine.pruning.surgery.recalibration import recalibrate
from ultralytics.nn.extra_modules.prunable import PRUNABLE_FORMS, forms, prunable_copy, to_prunable, to_stock
from ultralytics.nn.extra_modules.prunable_transformer import PrunableImagePooling, PrunableMSDeformAttn
from ultralytics.nn.extra_modules.prunable_world import PrunableC2fAttn, PrunableMaxSigmoid
from ultralytics.nn.modules import block
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.checks import parse_version

FAKE = FakeTensorMode(allow_non_fake_inputs=True)
HAS_A2C2F = hasattr(block, "A2C2f")
NETWORK = {
    "nc": 3,
    "scales": {"n": [1.0, 1.0, 1024]},  # all as it is written; older releases need one
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [32, True]],
        [-1, 1, "ADown", [32]],
        [-1, 1, "C2", [32]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "RepNCSPELAN4", [128, 64, 32, 1]],
        [-1, 1, "PSA", [128]],
        [-1, 1, "C2PSA", [128]],
        [-1, 1, "A2C2f", [128, True, 4]] if HAS_A2C2F else [-1, 1, "nn.Identity", []],
        [-1, 1, "C3TR", [128]],
    ],
    "head": [
        [3, 1, "CBLinear", [[32, 64]]],
        [-2, 1, "Conv", [64, 3, 2]],
        [[-2, -1], 1, "CBFuse", [[1]]],
        [[9, 12], 1, "Detect", ["nc"]],
    ],
}
ELSEWHERE = {PrunableMSDeformAttn, PrunableC2fAttn, PrunableMaxSigmoid, PrunableImagePooling}  # RT-DETR's and World's
ELSEWHERE |= set() if HAS_A2C2F else {PRUNABLE_FORMS[AAttn]}
REGULARISED = [name for name, method in METHODS.items() if method.regulariser]


class FakeCuda(TorchFunctionMode):
    """Makes fake tensors where cuda is asked for, and leaves the others real."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.__deepcopy__ and isinstance(
            args[0], FakeTensor
        ):  # torch copies bytes that are not there
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        given = [*args, *kwargs.values()]
        devices = [str(a) for a in given if isinstance(a, (str, torch.device))]
        fake = any(isinstance(a, FakeTensor) for a in given) or any(device.startswith("cuda") for device in devices)
        with FAKE if fake else nullcontext():
            return func(*args, **kwargs)


def starts_cuda():
    """Return True if this torch asks for a driver when a fake tensor goes to cuda."""
    try:
        with FakeCuda():
            torch.ones(1).to("cuda")
    except RuntimeError:
        return True
    return False


pytestmark = pytest.mark.skipif(
    parse_version(torch.__version__) < parse_version("2.7") and starts_cuda(),
    reason=f"torch {torch.__version__} starts CUDA for fake tensors",
)


@pytest.fixture(autouse=True)
def fake_cuda():
    with FakeCuda():
        yield


@pytest.fixture(scope="module")
def cpu():
    """A network with every prunable form that a plain detector can have."""
    torch.manual_seed(0)
    model = DetectionModel(deepcopy(NETWORK), verbose=False).eval()
    assert {type(form) for form in forms(prunable_copy(model))} == {*PRUNABLE_FORMS.values()} - ELSEWHERE
    with torch.no_grad():
        model(example_image(model))  # the head keeps the anchors of an image's size, which it computes from numbers
    return model


def on_cuda(model: nn.Module) -> nn.Module:
    """Return a copy with fake weights on cuda; the counters of batches stay real, as batch norms compute with them."""
    head = model.model[-1]
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    fakes = {id(t): t.to("cuda") for t in (*buffers, head.anchors, head.strides)}
    fakes |= {id(p): nn.Parameter(p.detach().to("cuda"), p.requires_grad) for p in model.parameters()}
    return deepcopy(model, fakes).eval()


def devices(model: nn.Module) -> set[str]:
    """Return where a model's weights and statistics are."""
    return {str(t.device) for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}


def test_mixed_devices_raise():
    """Else nothing here would prove anything. Indices on the CPU are allowed, as they are on a GPU."""
    weight = torch.ones(4, 2).to("cuda")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        weight + torch.ones(2)
    assert weight[torch.tensor([0, 2])].device.type == "cuda"


def test_surgery(cpu):
    """Prunable forms, graph, cut, merge, masks and recalibration."""
    model = to_prunable(on_cuda(cpu))
    graph = Graph(model)
    assert graph.sizes == Graph(prunable_copy(cpu)).sizes
    history = History(model)
    kept = channels_to_keep(model, graph.groups, [torch.arange(0, size, 2) for size in graph.sizes])
    history.note(kept)
    cut(model, kept)
    to_stock(model)
    assert devices(model) == {"cuda:0"}
    head, image = model.model[-1], example_image(cpu).to("cuda")
    if head.shape[1] != head.no:  # what it keeps anchors for is as wide as its input, in older releases as its output
        head.shape = torch.Size((1, head.cv2[0][0].conv.in_channels, *head.shape[2:]))
    dense = masked(on_cuda(cpu), SimpleNamespace(channels=history.channels()))
    shapes = [{k: (v.shape, v.device.type) for k, v in raw_outputs(m, image).items()} for m in (model, dense)]
    assert shapes[0] == shapes[1] and all(device == "cuda" for _, device in shapes[0].values())
    recalibrate(model, [image])
    assert devices(model) == {"cuda:0"}


def test_criteria(cpu):
    """Scores of every method, gradients among what they read, come to the CPU."""
    graph = Graph(to_prunable(on_cuda(cpu)))
    with FAKE:
        for p in graph.model.parameters():
            p.grad = torch.ones_like(p)
        for method in METHODS.values():
            settings = {"seed": 0} if method.needs_seed else {}
            groups = [group for group in graph.groups if group.has_norms() or not method.needs_norms]
            scores = [method.criterion(group, **settings) for group in groups]
            assert {s.device.type for s in scores} == {"cpu"} and [len(s) for s in scores] == [g.size for g in groups]


def test_regularisers(cpu):
    """What each adds to gradients and says of units stays on cuda."""
    model = on_cuda(cpu)
    units = Units(Graph(to_prunable(on_cuda(cpu))))
    with FAKE:
        doomed = torch.zeros(len(units), dtype=torch.bool, device="cuda")
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        for name in REGULARISED:
            regulariser = METHODS[name].regulariser(units, doomed)
            regulariser.add_gradients(model, 0.5)
            scales = regulariser.scales(model)
            assert scales.device.type == "cuda" and len(scales) == len(units)
    assert {p.grad.device.type for p in model.parameters()} == {"cuda"}
