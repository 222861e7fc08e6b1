# SPDX-License-Identifier: AGPL-3.0-or-later
"""A teacher computes only what its lesson reads, and the lesson stays the same."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import Interrupted, build_model, needs
from torch import nn

from ultralytics.engine.compress.lesson import HEADS, Unread, lighten, what_is_read
from ultralytics.engine.pruning.latency.inference import memory_format
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune
from ultralytics.nn.modules.head import Detect
from ultralytics.utils import DEFAULT_CFG_DICT

pytestmark = needs("distillation")


def multiplied(model, image):
    """Return how many products the convolutions of one forward pass take."""
    counted = []

    def count(conv, _, output):
        counted.append(output[0].numel() * conv.weight[0].numel())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    what_is_read(model, image)
    for hook in hooks:
        hook.remove()
    return sum(counted)


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n", "yolov8n-seg", "yolo26n-seg", "yolo26n-pose", "yolo11n-obb"])
def test_what_is_read_stays_and_costs_less(name):
    teacher = build_model(name).double()
    image = torch.rand(2, 3, 96, 64).double()
    expected = [tensor.clone() for tensor in what_is_read(teacher, image)]
    assert len(expected) == (8 if "26" in name else 4)  # scores and three features of each branch
    before = multiplied(teacher, image)
    assert lighten(teacher)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in teacher.modules())
    assert multiplied(teacher, image) < 0.95 * before
    for ours, theirs in zip(what_is_read(teacher, image), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n", "yolov8n-seg"])
def test_the_lesson_stays(name):
    from ultralytics.nn.distill_model import DistillationModel

    torch.manual_seed(0)
    student = build_model(name).train().requires_grad_(True)
    student.args = SimpleNamespace(**{**DEFAULT_CFG_DICT, "imgsz": 64})
    pair = DistillationModel(student_model=student, teacher_model=build_model(name)).double()
    batch = {"img": torch.rand(2, 3, 64, 64).double(), "batch_idx": torch.tensor([0.0, 1.0]), "cls": torch.zeros(2, 1)}
    batch |= {"bboxes": torch.full((2, 4), 0.5), "masks": torch.ones(2, 16, 16), "sem_masks": torch.zeros(2, 16, 16)}
    expected = taught(pair, batch)
    assert expected[0] > 0 and max(gradient.abs().max() for gradient in expected[1]) > 0
    assert lighten(pair.teacher_model)
    for ours, theirs in zip(taught(pair, batch)[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs)


def taught(pair, batch):
    """Return the teacher's loss and its gradients in the student's layers before the head."""
    pair.train()
    for module in pair.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    loss = pair(batch)[0][-1]
    layers = [p for layer in pair.student_model.model[:-1] for p in layer.parameters()]
    return loss.item(), torch.autograd.grad(loss, layers, allow_unused=False)


class OtherHead(Detect):
    """A head of the user's own, of which nobody knows what its branches are for."""


def test_another_head_is_left_alone():
    teacher = build_model("yolov8n")
    teacher.model[-1].__class__ = OtherHead
    expected = deepcopy(teacher.state_dict())
    assert OtherHead not in HEADS and not lighten(teacher)
    assert all(torch.equal(value, expected[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_that_would_teach_something_else_is_left_alone():
    """Two batch norms behind one convolution cannot both become part of it."""
    teacher = build_model("yolov8n")
    block = teacher.model[2].m[0]
    block.cv1.conv = block.cv2.conv
    expected = deepcopy(teacher.state_dict())
    assert not lighten(teacher)
    assert teacher.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in teacher.state_dict().items())


class Stopped(DetectionFinetune):
    """Ends when its first epoch begins."""

    def _model_train(self):
        super()._model_train()
        raise Interrupted


def test_the_teacher_of_a_fine_tuning_is_lightened_and_its_student_is_not(settings):
    pruned = DetectionCompressor(overrides={**settings, "name": "l-prune"}).compress()
    run = Stopped(overrides={**settings, "model": pruned, "name": "l-finetune"})
    with pytest.raises(Interrupted):
        run.train()
    teacher, student = run.model.teacher_model, run.model.student_model
    assert any(isinstance(m, Unread) for m in teacher.modules()) and not any(
        isinstance(m, Unread) for m in student.modules()
    )
    assert not any(isinstance(m, nn.BatchNorm2d) for m in teacher.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in student.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.model[2].cv1.conv.weight.is_contiguous(memory_format=memory_format(run.device))
