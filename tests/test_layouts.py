# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ultralytics in one place and this package in another: it works, or says what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from environments import Environment

IN_USE = """
import sys
from ultralytics import YOLO, cfg
assert "torch_pruning" not in sys.modules
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.engine.compress.checks.sparsity import SL_HYP
from ultralytics.data.utils import check_file
from ultralytics.nn.extra_modules import prunable
assert SL_HYP.is_file() and check_file("shapes.yaml") and callable(YOLO.compress)
print(cfg.__file__, "compress" in cfg.MODES)
"""


@pytest.fixture(scope="module")
def above(stock, borrowed, project, tmp_path_factory):
    """Return an environment with this package above one with Ultralytics, as above the system's site-packages."""
    environment = Environment(tmp_path_factory.mktemp("above"), f"{stock.site_packages}\n{borrowed}")
    environment.install(project)
    return environment


@pytest.fixture
def fork(ultralytics_checkout, tmp_path):
    """Return a checkout of Ultralytics, somewhere."""
    return shutil.copytree(ultralytics_checkout, tmp_path / "fork")


def test_ultralytics_of_the_system_below_this_package(above, stock):
    file = stock.site_packages / "ultralytics/cfg/__init__.py"
    assert above.python(IN_USE) == f"{file} True"
    code = "import sys; sys.argv = ['yolo', 'help']; from ultralytics.cfg import entrypoint; entrypoint()"
    assert "yolo compress" in above.run(above.scripts / "python", "-c", code, YOLO_VERBOSE="true").stdout


def test_this_package_of_the_system_below_ultralytics(installed, borrowed, ultralytics_wheel, tmp_path):
    code = f"import site; site.addsitedir({str(installed.site_packages)!r})"  # which runs the .pth files in it
    environment = Environment(tmp_path / "environment", borrowed, ultralytics_wheel)
    (environment.site_packages / "system.pth").write_text(code, encoding="utf-8")
    assert environment.python(IN_USE) == f"{environment.site_packages / 'ultralytics/cfg/__init__.py'} True"


def test_site_packages_of_the_user(stock, borrowed, project, tmp_path):
    # Python 3.10's _base_executable may be that of the environment, in which pip installs nothing for the user
    base = Path(sys.base_prefix) / ("python.exe" if os.name == "nt" else f"bin/python3.{sys.version_info.minor}")
    python = [base, "-c"]
    # the folder is the test's own, also for a Python that its system manages
    environ = {**stock.environ, "PYTHONUSERBASE": str(tmp_path / "user"), "PIP_BREAK_SYSTEM_PACKAGES": "1"}

    def run(*command):
        process = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout.strip()

    user = tmp_path / run(*python, "import site; print(site.getusersitepackages())")
    user.mkdir(parents=True)
    (user / "system.pth").write_text(f"{stock.site_packages}\n{borrowed}", encoding="utf-8")
    options = ("--user", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    run(base, "-m", "pip", "install", *options, str(project))
    assert (user / "ultralytics_compress.pth").is_file()
    assert run(*python, IN_USE) == f"{stock.site_packages / 'ultralytics/cfg/__init__.py'} True"


def test_a_folder_of_pythonpath_needs_one_import(stock, project, tmp_path):
    stock.install("--target", tmp_path / "target", project)
    file = stock.site_packages / "ultralytics/cfg/__init__.py"
    code = "from ultralytics import YOLO, cfg; print(cfg.__file__, 'compress' in cfg.MODES)"
    assert stock.python(code, PYTHONPATH=str(tmp_path / "target")) == f"{file} False"  # where no .pth file is read
    code = f"import ultralytics_compress_startup\n{IN_USE}"
    assert stock.python(code, PYTHONPATH=str(tmp_path / "target")) == f"{file} True"


@pytest.mark.parametrize("how", ["installed", "editable", "above"])
def test_forks_are_used_from_where_they_are(how, request, fork, tmp_path):
    environment = request.getfixturevalue(how)
    other = shutil.copytree(fork, tmp_path / "other")
    assert environment.python(IN_USE, cwd=fork) == f"{fork / 'ultralytics/cfg/__init__.py'} True"
    printed = environment.python(IN_USE, cwd=fork, PYTHONSAFEPATH="1", PYTHONPATH=str(other))
    assert printed == f"{(other if sys.version_info >= (3, 11) else fork) / 'ultralytics/cfg/__init__.py'} True"


def test_a_fork_with_extra_modules_keeps_them(installed, fork):
    folder = fork / "ultralytics/nn/extra_modules"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .block import MINE\n", encoding="utf-8")
    (folder / "block.py").write_text("MINE = 1\n", encoding="utf-8")
    code = f"{IN_USE}\nfrom ultralytics.nn.extra_modules import MINE"
    assert installed.python(code, cwd=fork) == f"{fork / 'ultralytics/cfg/__init__.py'} True"


def test_a_fork_that_pip_has_installed(borrowed, ultralytics_wheel, project, tmp_path):
    environment = Environment(tmp_path / "environment", borrowed, ultralytics_wheel)
    fork = environment.site_packages / "ultralytics"
    own = {"__init__.py": "from .block import MINE\n", "block.py": "MINE = 1\n"}
    (fork / "nn/extra_modules").mkdir()
    for name, text in own.items():
        (fork / "nn/extra_modules" / name).write_text(text, encoding="utf-8")
    (fork / "models/yolo/detect/compress.py").write_text("OWN = True\n", encoding="utf-8")
    script = project / "ultralytics/cfg/compress/startup/ultralytics_compress_drop_in.py"
    said = environment.run(environment.scripts / "python", script, fork.parent, "--dry-run").stdout
    aside = [line.split()[2] for line in said.splitlines() if line.startswith("move aside")]
    assert aside == ["ultralytics/models/yolo/detect/compress.py"]  # what pip replaces and cannot bring back

    environment.install(project)
    code = f"{IN_USE}\nfrom ultralytics.nn.extra_modules import MINE"
    assert environment.python(code) == f"{fork / 'cfg/__init__.py'} True"
    environment.run(environment.scripts / "python", "-m", "pip", "uninstall", "--yes", "ultralytics-compress")
    assert {name: (fork / "nn/extra_modules" / name).read_text(encoding="utf-8") for name in own} == own


def test_a_fork_whose_own_module_hides_ours_is_left_whole_and_told(installed, fork):
    (fork / "ultralytics/models/yolo/detect/compress.py").write_text("OWN = True\n", encoding="utf-8")
    code = "from ultralytics import YOLO, cfg; YOLO('yolov8n.yaml')._smart_load('trainer'); print(*cfg.MODES)"
    process = installed.run(installed.scripts / "python", "-c", code, cwd=fork, YOLO_VERBOSE="true")
    modes = process.stdout.splitlines()[-1].split()  # a set in older releases
    assert "benchmark" in modes and "compress" not in modes
    assert (process.stdout + process.stderr).count("is off: Ultralytics") == 1
    assert "'python -m ultralytics_compress_drop_in' moves aside" in process.stdout + process.stderr


@pytest.mark.parametrize("how", ["installed", "editable"])
def test_yolo_checks_tells_the_state(how, request, project):
    environment = request.getfixturevalue(how)
    printed = environment.run(environment.scripts / "yolo", "checks", YOLO_VERBOSE="true").stdout
    folder = environment.site_packages if how == "installed" else project
    state = [line for line in printed.splitlines() if "ultralytics-compress" in line]
    assert len(state) == 1 and state[0].endswith(f": on, in {folder / 'ultralytics/cfg/compress'}")


def test_yolo_checks_tells_why_it_is_off(installed, fork):
    file = fork / "ultralytics/models/yolo/obb/train.py"
    file.write_text(file.read_text(encoding="utf-8").replace("def get_model", "def build_model"), encoding="utf-8")
    code = "import sys; sys.argv = ['yolo', 'checks']; from ultralytics.cfg import entrypoint; entrypoint()"
    printed = installed.run(installed.scripts / "python", "-c", code, cwd=fork, YOLO_VERBOSE="true")
    assert (printed.stdout + printed.stderr).count("has no ultralytics.models.yolo.obb.train.OBBTrainer.get_model") == 1
    assert ": on, in" not in printed.stdout
