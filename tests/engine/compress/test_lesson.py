# SPDX-License-Identifier: AGPL-3.0-or-later
"""A teacher computes only what its lesson reads, and the lesson stays the same."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import Interrupted, build_model, needs, save_dense
from torch import nn
from torch.nn import functional as F

from ultralytics import YOLO
from ultralytics.engine.compress.lesson import HEADS, Unread, lesson, lighten
from ultralytics.engine.pruning import prune_model
from ultralytics.engine.pruning.latency.inference import memory_format
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune
from ultralytics.nn.modules import Conv
from ultralytics.nn.modules.head import Detect
from ultralytics.utils import DEFAULT_CFG_DICT

pytestmark = needs("distillation")


def pair_of(teacher, name):
    """Return a teacher and a student as Ultralytics' distillation has them."""
    from ultralytics.nn.distill_model import DistillationModel

    torch.manual_seed(0)
    student = build_model(name).train().requires_grad_(True)
    student.args = SimpleNamespace(**{**DEFAULT_CFG_DICT, "imgsz": 64})
    return DistillationModel(student_model=student, teacher_model=teacher)


def taught(pair, images):
    """Return the lesson's loss, its gradients in the student before the head, and the teacher's products, of a copy."""
    pair, products = deepcopy(pair).train(), []
    for module in pair.teacher_model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: products.append(y[0].numel() * m.weight[0].numel()))
    loss = lesson(pair, images)
    layers = [p for layer in pair.student_model.model[:-1] for p in layer.parameters()]
    return loss.item(), torch.autograd.grad(loss, layers), sum(products)


@pytest.mark.parametrize(
    "name",
    ["yolov8n", "yolov10n", "yolo26n", "yolov8n-seg", "yolo26n-seg", "yolo11n-pose", "yolo26n-pose", "yolo26n-obb"],
)
def test_the_lesson_stays_and_costs_less(name):
    pair = pair_of(build_model(name), name).double()
    images = torch.rand(2, 3, 96, 64).double()
    loss, gradients, products = taught(pair, images)
    assert loss > 0 and max(gradient.abs().max() for gradient in gradients) > 0
    assert lighten(pair)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in pair.teacher_model.modules())
    ours, found, fewer = taught(pair, images)
    assert ours == pytest.approx(loss, rel=1e-6) and fewer < 0.95 * products
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_pruned_teacher_is_lightened_too():
    pruned, _ = prune_model(build_model("yolo11n"), prune_method="lamp")
    pair = pair_of(pruned, "yolo11n").double()
    images = torch.rand(2, 3, 64, 64).double()
    loss, _, products = taught(pair, images)
    assert lighten(pair)
    ours, _, fewer = taught(pair, images)
    assert ours == pytest.approx(loss, rel=1e-6) and fewer < 0.95 * products


class OtherHead(Detect):
    """A head of the user's own, of which nobody knows what its branches are for."""


class Blurred(Conv):
    """A block with a constant of one precision."""

    def forward(self, x):
        return F.conv2d(super().forward(x), torch.ones(self.conv.out_channels, 1, 1, 1), groups=self.conv.out_channels)


class Folded(Conv):
    """A block that takes its features for contiguous."""

    def forward(self, x):
        y = super().forward(x)
        b, c, h, w = y.shape
        return y.view(b, c * h, w).view(b, c, h, w)


def of_class(teacher, kind):
    teacher.model[1].__class__ = kind


def with_another_head(teacher):
    teacher.model[-1].__class__ = OtherHead
    assert OtherHead not in HEADS


def with_shared_convolution(teacher):
    """Two batch norms behind one convolution cannot both become part of it."""
    block = teacher.model[2].m[0]
    block.cv1.conv = block.cv2.conv


def with_norm_of_batches(teacher):
    norm = teacher.model[1].bn
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None


@pytest.mark.parametrize(
    "change",
    [
        with_another_head,
        with_shared_convolution,
        with_norm_of_batches,
        lambda teacher: of_class(teacher, Blurred),
        pytest.param(
            lambda teacher: of_class(teacher, Folded),
            marks=pytest.mark.skipif(
                memory_format(torch.device("cpu")) is torch.contiguous_format, reason="no other layout is taken here"
            ),
        ),
    ],
    ids=["head", "shared convolution", "norm of batches", "constant", "view"],
)
def test_a_teacher_that_would_teach_something_else_is_left_as_it_is(change):
    teacher = build_model("yolov8n")
    change(teacher)
    pair = pair_of(teacher, "yolov8n").train()
    expected = deepcopy(teacher.state_dict())
    assert not lighten(pair)
    found = pair.teacher_model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert lesson(pair, torch.rand(2, 3, 64, 64)) > 0


class Stopped(DetectionFinetune):
    """Ends when its first epoch begins."""

    def _model_train(self):
        super()._model_train()
        raise Interrupted


def test_a_fine_tuning_says_that_its_teacher_is_run_whole(settings, tmp_path, log):
    pruned = DetectionCompressor(overrides={**settings, "name": "w-prune"}).compress()
    chosen = YOLO("yolov8n.yaml")
    chosen.model = build_model("yolov8n", nc=2)
    with_shared_convolution(chosen.model)
    teacher = save_dense(chosen, tmp_path / "teacher.pt")
    run = Stopped(overrides={**settings, "model": pruned, "name": "w-finetune", "distill_model": teacher})
    with pytest.raises(Interrupted):
        run.train()
    assert any(isinstance(m, nn.BatchNorm2d) for m in run.model.teacher_model.modules())
    assert "it is run whole" in log.text


def test_the_teacher_of_a_fine_tuning_is_lightened_and_its_student_is_not(settings, log):
    pruned = DetectionCompressor(overrides={**settings, "name": "l-prune"}).compress()
    run = Stopped(overrides={**settings, "model": pruned, "name": "l-finetune"})
    with pytest.raises(Interrupted):
        run.train()
    teacher, student = run.model.teacher_model, run.model.student_model
    assert any(isinstance(m, Unread) for m in teacher.modules())
    assert not any(isinstance(m, Unread) for m in student.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in teacher.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in student.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.model[2].cv1.conv.weight.is_contiguous(memory_format=memory_format(run.device))
    assert "it is run whole" not in log.text
