# SPDX-License-Identifier: AGPL-3.0-or-later
"""The keys of the compress mode are checked as Ultralytics checks its own, and are known to nobody else."""

import pytest
from conftest import NEEDS, needs, no_argument

import ultralytics.cfg
from ultralytics.cfg import check_cfg, get_cfg
from ultralytics.cfg.compress import keys
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.pruning.budget.costs import COSTS
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

VALUES = "checks of strings, None and whole floats"
STOCK_KEYS = {float: "box", int: "workers", bool: "val", str: "optimizer"}  # of the same type, without a range
ODD = [1, 2.0, 2.5, 1e2, True, False, "1", "8", "1e2", "true", "", None, [1], {}, b"x", (2,)]


def test_every_key_has_a_type_a_default_and_a_description():
    lines = keys.KEYS_FILE.read_text().splitlines()
    assert all("# (" in line for line in lines if line and not line.startswith("#"))
    assert keys.DEFAULTS.keys() == keys.TYPES.keys()
    assert vars(keys.get_prune_cfg({})) == keys.DEFAULTS == YAML.load(keys.KEYS_FILE)


def test_choices_are_those_of_the_library():
    assert set(keys.CHOICES["prune_method"]) == METHODS.keys()
    assert set(keys.CHOICES["budget"]) == COSTS.keys()
    lines = {line.partition(":")[0]: line for line in keys.KEYS_FILE.read_text().splitlines()}
    for key, choices in keys.CHOICES.items():  # the descriptions name them all
        assert not [choice for choice in choices if choice not in lines[key]]


def test_ultralytics_does_not_know_the_keys():
    tables = [table for name, table in vars(ultralytics.cfg).items() if name.startswith("CFG_")]
    assert len(tables) >= (6 if NEEDS[VALUES] else 4)
    for known in (*tables, DEFAULT_CFG_DICT, vars(DEFAULT_CFG), vars(get_cfg())):
        assert not set(known) & keys.DEFAULTS.keys()
    with pytest.raises(SyntaxError, match=no_argument("speed_up")):
        get_cfg(overrides={"speed_up": 3.0})


@needs(VALUES)
@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("key", [key for key, kind in keys.TYPES.items() if kind in STOCK_KEYS])
def test_odd_values_are_taken_or_refused_as_ultralytics_does(key, value):
    stock_key = STOCK_KEYS[keys.TYPES[key]]
    try:
        check_cfg(stock := {stock_key: value})
        expected = stock[stock_key]
    except TypeError as error:
        expected = str(error).replace(f"'{stock_key}", f"'{key}")
    if value is None and keys.DEFAULTS[key] is None:
        expected = None
    if key == "speed_up" and isinstance(value, (list, tuple)):
        return  # a sweep
    try:
        keys.check(own := {key: value})
        assert own[key] == expected and type(own[key]) is type(expected)
    except TypeError as error:
        assert str(error) == expected
    except ValueError as error:  # out of range, which is for the other tests
        assert f"'{key}={expected}' is" in str(error)


@pytest.mark.parametrize("key", [key for key, kind in keys.TYPES.items() if kind is float])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(key, value):
    with pytest.raises(ValueError, match=f"'{key}={value}' is an invalid value. '{key}' must be a finite number"):
        keys.get_prune_cfg({key: value})


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
        ("sl_hyp", {}, TypeError, "'sl_hyp={}' is of invalid type dict. 'sl_hyp' must be the path of a file"),
    ],
)
def test_bad_value_gets_one_clear_error(key, value, error, message):
    with pytest.raises(error, match=message):
        keys.get_prune_cfg({key: value})


def test_whole_floats_become_ints():
    own = keys.get_prune_cfg({"round_to": 8.0, "prune_batches": 1e2})
    assert (own.round_to, own.prune_batches) == (8, 100)
    assert type(own.round_to) is type(own.prune_batches) is int


def test_arguments_of_a_run_are_read_from_both_its_files(tmp_path):
    YAML.save(tmp_path / "args.yaml", {"mode": "compress", "epochs": 3})
    YAML.save(tmp_path / "mine.yaml", {"mode": "compress", "epochs": 4})
    assert keys.load_cfg(tmp_path / "args.yaml") == {"mode": "compress", "epochs": 3}
    YAML.save(tmp_path / keys.COMPRESS_FILE, {"speed_up": 3.0})
    assert keys.load_cfg(tmp_path / "args.yaml") == {"mode": "compress", "epochs": 3, "speed_up": 3.0}
    assert keys.load_cfg(tmp_path / "mine.yaml") == {"mode": "compress", "epochs": 4}
    YAML.save(tmp_path / "args.yaml", {"mode": "train", "epochs": 3})
    assert keys.load_cfg(tmp_path / "args.yaml") == {"mode": "train", "epochs": 3}
