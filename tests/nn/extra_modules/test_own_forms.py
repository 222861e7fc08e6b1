# SPDX-License-Identifier: AGPL-3.0-or-later
"""A prunable form of a block that is nobody's but the user's, from the user's own file."""

import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, build_model
from torch import nn

from ultralytics.nn.extra_modules.prunable import PrunableForm, prunable

MAKE = """
import sys, torch
from my_blocks import Gated
from torch import nn

model = torch.load(sys.argv[1], weights_only=False)["model"].float()
layer = model.model[3]
behind = nn.Sequential(layer, Gated(layer.conv.out_channels))
behind.i, behind.f, behind.type = layer.i, layer.f, layer.type
model.model[3] = behind
torch.save({"model": model.eval(), "train_args": {}}, sys.argv[1])
"""
PRUNE = """
import sys, torch
from ultralytics import YOLO
from ultralytics.engine.pruning import Budget, largest_difference, prune_model

model = YOLO(sys.argv[1]).model
pruned, record = prune_model(model, Budget(2.0, round_to=1, global_pruning=False), prune_method="lamp")
assert largest_difference(model, pruned, record, torch.rand(1, 3, 64, 64)) < 1e-4
block = pruned.model[3][1]
assert type(block).__module__ == "my_blocks" and type(block).__name__ == "Gated"
assert block.c * 2 == block.cv1.conv.out_channels < model.model[3][1].cv1.conv.out_channels
assert not any("model.3.1" in name for name in record.left_dense), record.left_dense
"""


@pytest.fixture
def python(tmp_path):
    """Return a function that runs code in a process of its own, in which the example of the documentation lies."""
    text = (ROOT / "docs/blocks.md").read_text(encoding="utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@prunable" in code)
    (tmp_path / "my_blocks.py").write_text(example)

    def run(code, *args):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        process = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        return process

    return run


def test_example_of_the_documentation_prunes_a_block_of_ones_own(python, tmp_path):
    """The process that prunes is told nothing: the checkpoint imports the file that has block and form."""
    torch.save({"model": build_model("yolov8n")}, tmp_path / "best.pt")
    python(MAKE, str(tmp_path / "best.pt"))
    python(PRUNE, str(tmp_path / "best.pt"))


@pytest.mark.parametrize("blocks", [(), ("Gated",), (nn.Conv2d, 1), (nn.Conv2d(1, 1, 1),)])
def test_only_classes_of_blocks_get_a_form(blocks):
    with pytest.raises(TypeError, match=r"@prunable takes classes of blocks, i.e. @prunable\(MyBlock\)"):
        prunable(*blocks)


@pytest.mark.parametrize("form", [nn.Module, PrunableForm(), None])
def test_only_a_form_can_stand_for_a_block(form):
    with pytest.raises(TypeError, match="a class derived from PrunableForm"):
        prunable(nn.Conv2d)(form)
