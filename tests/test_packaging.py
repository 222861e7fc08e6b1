# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is built from a clean checkout holds what it must, and says what it is."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import ultralytics
from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.compat import TESTED

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", "*.egg-info", "__pycache__", ".*_cache", ".venv", "build", "dist", "runs")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(kind, project, folder):
    """Return what a build hook makes in a folder."""
    command = [sys.executable, "-c", BUILD, kind, str(folder)]
    printed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return folder / printed.splitlines()[-1]


def list_files(*folders):
    """List files of the checkout, relative to its root."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]
    return {file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Return the unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_OUT)
    with tarfile.open(build("build_sdist", folder / "checkout", folder)) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / f"ultralytics_compress-{__version__}"


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Return the wheel that is built from the source distribution, opened."""
    with zipfile.ZipFile(build("build_wheel", sdist, tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


def test_a_yaml_that_ultralytics_finds_by_its_name_alone_stays_the_only_one_of_it():
    """`check_file` looks below the whole package, and refuses a name that is there twice."""
    own = {Path(name).name for name in list_files("ultralytics") if name.endswith((".yaml", ".yml"))}
    stock = Path(ultralytics.__file__).parent
    theirs = {
        file.name for file in stock.rglob("*.yaml") if not (ROOT / "ultralytics" / file.relative_to(stock)).exists()
    }
    assert len(own) > 5 and len(theirs) > 50 and own & theirs == set()


def test_source_distribution_can_be_tested_and_developed(sdist):
    needed = list_files("ultralytics", "tests", "benchmarks", "docs") | {
        *("setup.py", "pyproject.toml", "compress.py", ".ci/run", ".pre-commit-config.yaml"),
        *("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "NOTICE"),
        "mkdocs.yml",
    }
    assert {name for name in needed if not (sdist / name).is_file()} == set()


@pytest.mark.slow
def test_tests_of_the_source_distribution_are_collected(sdist):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-rs", "-m", ""]
    process = subprocess.run(command, cwd=sdist, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    names = {line.partition("::")[0] for line in process.stdout.splitlines() if "::" in line}
    names |= {*re.findall(r"^SKIPPED \[\d+\] (\S+?):\d+: ", process.stdout, re.MULTILINE)}  # what an extra would bring
    assert names == {file for file in list_files("tests") if Path(file).name.startswith("test_")}


def test_wheel_has_the_overlay_the_startup_hook_and_nothing_else(wheel):
    name = f"ultralytics_compress-{__version__}"
    startup = "ultralytics/cfg/compress/startup/"
    overlay = {file for file in list_files("ultralytics") if not file.startswith(startup)}
    hook = {f"{name}.data/purelib/{file.removeprefix(startup)}" for file in list_files(startup)}
    left_out = {"ultralytics/nn/extra_modules/__init__.py"}  # which is empty, and of which forks have one of their own
    assert {f for f in wheel.namelist() if not f.startswith(f"{name}.dist-info/")} == (overlay | hook) - left_out


def test_metadata(wheel):
    metadata = email.message_from_bytes(wheel.read(f"ultralytics_compress-{__version__}.dist-info/METADATA"))
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "AGPL-3.0-or-later"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert f"Programming Language :: Python :: {metadata['Requires-Python'].removeprefix('>=')}" in metadata.get_all(
        "Classifier"
    )


def test_installation_leaves_an_ultralytics_that_is_supported(wheel):
    metadata = email.message_from_bytes(wheel.read(f"ultralytics_compress-{__version__}.dist-info/METADATA"))
    (bound,) = [line for line in metadata.get_all("Requires-Dist") if line.startswith("ultralytics")]
    assert bound == f"ultralytics>={TESTED[0]}"


def test_licence_is_there_in_full(wheel):
    text = wheel.read(f"ultralytics_compress-{__version__}.dist-info/licenses/LICENSE").decode()
    assert "GNU AFFERO GENERAL PUBLIC LICENSE\n                       Version 3" in text
    assert "13. Remote Network Interaction" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_extras_build_with_what_the_build_system_asks_for():
    (pinned,) = re.findall(r'^requires = \["(setuptools.+?)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f'"{pinned}"' in (ROOT / "setup.py").read_text()
