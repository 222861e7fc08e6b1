# SPDX-License-Identifier: AGPL-3.0-or-later
"""The version has one place, and goes with those of the packages underneath."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import ultralytics
from ultralytics.cfg.compress import __version__, describe_version, versions

ROOT = Path(__file__).resolve().parents[3]


def test_versions_are_those_of_the_imported_packages():
    assert versions() == {
        "ultralytics-compress": __version__,
        "ultralytics": ultralytics.__version__,
        "torch": torch.__version__,
        "torch-pruning": version("torch-pruning"),
    }


def test_one_line_names_them_all():
    assert describe_version().startswith(f"ultralytics-compress {__version__}, ultralytics {ultralytics.__version__}, ")


def test_setup_takes_the_version_from_the_package():
    command = [sys.executable, str(ROOT / "setup.py"), "--version"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == __version__


def test_torch_pruning_is_not_imported():
    code = (
        "import sys; from ultralytics.cfg.compress import versions; versions(); print('torch_pruning' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "False"
