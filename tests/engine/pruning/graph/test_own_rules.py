# SPDX-License-Identifier: AGPL-3.0-or-later
"""A rule for a layer that is nobody's but the user's, from the user's own file."""

import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, build_model
from torch import nn

from ultralytics.engine.pruning.graph.layers import register_rule

PRUNE = """
import sys, torch
from my_layers import Blur
from torch import nn
from ultralytics.engine.pruning import Budget, largest_difference, prune_model

model = torch.load(sys.argv[1], weights_only=False)["model"]
layer = model.model[3]
behind = nn.Sequential(layer, Blur())
behind.i, behind.f, behind.type = layer.i, layer.f, layer.type
model.model[3] = behind
pruned, record = prune_model(model, Budget(1.5, round_to=1, global_pruning=False), prune_method="lamp")
assert largest_difference(model, pruned, record, torch.rand(1, 3, 64, 64)) < 1e-4
print(record.left_dense.get("model.3.0.conv", "is pruned"))
"""


@pytest.mark.parametrize(("ruled", "outcome"), [(True, "is pruned"), (False, "cannot be followed through")])
def test_example_of_the_documentation_prunes_around_a_layer_of_ones_own(ruled, outcome, tmp_path):
    text = (ROOT / "docs/blocks.md").read_text(encoding="utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "register_rule" in code)
    rule = "register_rule(Blur, keep_channels)\n"
    assert example.endswith(rule)
    (tmp_path / "my_layers.py").write_text(example if ruled else example.removesuffix(rule))
    torch.save({"model": build_model("yolov8n")}, tmp_path / "best.pt")
    command = [sys.executable, "-c", PRUNE, str(tmp_path / "best.pt")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    assert outcome in process.stdout.splitlines()[-1]


@pytest.mark.parametrize("wrong", [("Blur", print), (nn.Conv2d(1, 1, 1), print), (int, print), (nn.Conv2d, 1)])
def test_only_a_function_can_be_the_rule_of_a_class_of_layers(wrong):
    with pytest.raises(TypeError, match="register_rule takes the class of a layer and a function"):
        register_rule(*wrong)
