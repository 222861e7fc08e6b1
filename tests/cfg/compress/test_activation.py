# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compress mode is a mode like any other of Ultralytics, and its keys are keys like any others."""

import subprocess
import sys

import pytest
import ultralytics_compress_startup

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.cfg.compress import activation
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, DEFAULT_CFG_KEYS, YAML


def test_keys_are_in_every_table():
    keys = YAML.load(activation.PRUNE_CFG_PATH)
    assert keys.keys() <= DEFAULT_CFG_DICT.keys() and keys.keys() <= set(DEFAULT_CFG_KEYS)
    assert all(getattr(DEFAULT_CFG, k) == v for k, v in keys.items())
    typed = activation.FLOAT_KEYS | activation.FRACTION_KEYS | activation.INT_KEYS
    assert keys.keys() == typed | activation.BOOL_KEYS | activation.STR_KEYS | {"sl_hyp", "sl_model"}
    assert get_cfg().speed_up == 2.0


def test_every_default_has_a_type_and_a_description():
    lines = activation.PRUNE_CFG_PATH.read_text().splitlines()
    assert all("# (" in line for line in lines if line and not line.startswith("#"))


def test_activating_again_changes_nothing():
    before = dict(vars(ultralytics.cfg)), YOLO.compress, YOLO.task_map
    activation.activate()
    assert (dict(vars(ultralytics.cfg)), YOLO.compress, YOLO.task_map) == before
    assert ultralytics.cfg.MODES.count("compress") == 1


def test_models_that_are_not_pruned_do_not_wait_for_torch_pruning():
    code = (
        "import sys; from ultralytics import YOLO; from ultralytics.cfg import get_cfg; model = YOLO('yolov8n.yaml'); "
        "get_cfg(overrides={'prune_method': 'lamp'}); assert model._smart_load('trainer'); "
        "assert 'torch_pruning' not in sys.modules; "
        "assert model._smart_load('compressor').__name__ == 'DetectionCompressor'"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_startup_watches_what_activation_patches():
    assert set(ultralytics_compress_startup.WATCHED) == set(activation.PATCHES)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("speed_up", 0.5, ValueError, "'speed_up=0.5' .* greater than 1.0"),
        ("speed_up", 1, ValueError, "'speed_up=1' .* greater than 1.0"),
        ("speed_up", "fast", TypeError, "'speed_up=fast' is of invalid type str"),
        ("prune_method", "lampp", ValueError, "'prune_method=lampp' is invalid. Valid .* lamp, l1"),
        ("prune_method", 3, TypeError, "'prune_method=3' is of invalid type int"),
        ("max_sparsity", 1.5, ValueError, "'max_sparsity=1.5' is an invalid value"),
        ("max_sparsity", 0, ValueError, "'max_sparsity=0' .* greater than 0.0"),
        ("global_pruning", "maybe", TypeError, "'global_pruning=maybe' is of invalid type str"),
        ("round_to", 0, ValueError, "'round_to=0' .* must be >= 1"),
        ("round_to", 1.5, TypeError, "'round_to=1.5' is of invalid type float"),
        ("reg", -0.1, ValueError, "'reg=-0.1' .* must not be negative"),
        ("reg_decay_type", "cosine", ValueError, "'reg_decay_type=cosine' is invalid. Valid .* constant, linear, step"),
        ("sl_epochs", -1, ValueError, "'sl_epochs=-1' .* must be >= 0"),
    ],
)
def test_bad_value_gets_one_clear_error(key, value, error, message):
    with pytest.raises(error, match=message):
        get_cfg(overrides={key: value})


def test_misspelt_key_gets_a_hint():
    with pytest.raises(SyntaxError, match=r"'sped_up' is not a valid YOLO argument. .*speed_up=2.0"):
        ultralytics.cfg.entrypoint("yolo compress model=yolov8n.yaml sped_up=3")


@pytest.mark.parametrize(
    ("command", "texts"), [("help", ["'compress'", "yolo compress"]), ("cfg", ["imgsz", "speed_up: 2.0"])]
)
def test_cli_shows_mode_and_keys(command, texts, log):
    ultralytics.cfg.entrypoint(f"yolo {command}")
    assert all(text in log.text for text in texts)


def test_cli_refuses_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="speed_up=0.5"):
        ultralytics.cfg.entrypoint(f"yolo compress model=yolov8n.yaml data=coco8.yaml speed_up=0.5 project={tmp_path}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["yolov8s-worldv2", "yoloe-26s"])
def test_unsupported_model_is_refused_with_the_reason(tmp_path, name):
    with pytest.raises(ValueError, match="is not supported, because its classes are compared with text embeddings"):
        YOLO(f"{name}.yaml").compress(data="coco8.yaml", project=str(tmp_path))
