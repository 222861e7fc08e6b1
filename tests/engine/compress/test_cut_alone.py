# SPDX-License-Identifier: AGPL-3.0-or-later
"""With finetune=False a run ends after the cut, and what would need a fine-tuning is refused before work."""

import shutil
from pathlib import Path

import cv2
import pytest

from ultralytics import YOLO
from ultralytics.cfg import CFG_BOOL_KEYS
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import is_refusal
from ultralytics.models.yolo.detect.compress import DetectionCompressor


def test_the_run_ends_after_the_cut(settings, tmp_path, log):
    keys = {**settings, "name": "c", "finetune": False, "refit": True}
    yolo = YOLO(settings["model"])
    report = yolo.compress(**keys)
    assert [*report["rows"]] == ["dense", "pruned"]
    pruned = Path(report["rows"]["pruned"]["weights"])
    assert pruned == tmp_path / "c-prune" / "weights" / "prune.pt" and yolo.ckpt_path == str(pruned)
    assert load_checkpoint(pruned)[0].pruning["refitted"] and not (tmp_path / "c-finetune").exists()
    assert "and the dense model was trained for" not in log.text
    assert f"yolo export model={pruned} format=onnx imgsz={settings['imgsz']}" in log.text
    assert YOLO(settings["model"]).compress(**keys, resume=True) == report


@pytest.mark.parametrize(
    "keys", [{"multi_scale": True if "multi_scale" in CFG_BOOL_KEYS else 0.5}, {"rect": True}], ids=["scale", "rect"]
)
def test_a_refit_takes_images_of_one_size(settings, tiny_data, tmp_path, keys):
    copy = tmp_path / "oblong"
    shutil.copytree(Path(tiny_data).parent, copy, ignore=shutil.ignore_patterns("*.cache"))
    for file in sorted((copy / "images" / "train").iterdir())[::2]:
        cv2.imwrite(str(file), cv2.imread(str(file))[:, :30])
    YAML.save(copy / "tiny.yaml", {**YAML.load(tiny_data), "path": str(copy)})
    own = {"data": str(copy / "tiny.yaml"), "name": "o-prune", "refit": True, "imgsz": 64, "batch": 2, **keys}
    pruned = DetectionCompressor(overrides={**settings, **own}).compress()
    assert load_checkpoint(pruned)[0].pruning["refitted"]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"max_drop": 0.5}, "'max_drop=0.5'"),
        ({"qat_epochs": 1, "deploy": "onnx"}, "'qat_epochs=1' and 'deploy=onnx'"),
        ({"speed_up": [1.5, 2]}, r"'speed_up=\[1.5, 2\]'"),
    ],
)
def test_what_needs_a_fine_tuning_is_refused(settings, tmp_path, keys, named):
    with pytest.raises(ValueError, match=f"'finetune=False' leaves out the fine-tuning, which {named} needs") as found:
        YOLO(settings["model"]).compress(**{**settings, "finetune": False, "name": "c", **keys})
    assert is_refusal(found.value)  # no traceback on the command line
    assert not (tmp_path / "c-prune").exists()
