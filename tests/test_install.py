# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every way of installing the overlay activates it, and none leaves a trace in Ultralytics."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from environments import ROOT, Environment

IS_ACTIVE = "import ultralytics.cfg as cfg; print(cfg.__file__, 'compress' in cfg.MODES)"
HEAVY = {"torch", "numpy", "cv2", "yaml", "ultralytics", "torch_pruning"}


def list_overlay():
    """List the overlay's files, relative to the folder that holds `ultralytics`."""
    files = [file for file in (ROOT / "ultralytics").rglob("*") if file.suffix in {".py", ".yaml", ".html"}]
    return [file.relative_to(ROOT) for file in files if file.parent.name != "startup"]


@pytest.fixture(params=["installed", "editable"])
def environment(request):
    """Return each of the two environments that have the overlay."""
    return request.getfixturevalue(request.param)


def test_overlay_has_no_path_of_ultralytics(ultralytics_files):
    folders = {parent for name in ultralytics_files for parent in name.parents}
    for name in list_overlay():
        assert name not in ultralytics_files
        assert name.name != "__init__.py" or name.parent not in folders


def test_install_puts_the_overlay_beside_ultralytics(installed):
    for name in list_overlay():
        if name.as_posix() != "ultralytics/nn/extra_modules/__init__.py":  # forks have one of their own
            assert (installed.site_packages / name).read_bytes() == (ROOT / name).read_bytes()
    assert installed.python(IS_ACTIVE) == f"{installed.site_packages / 'ultralytics/cfg/__init__.py'} True"


def test_source_distribution_has_every_file_of_the_overlay(project, tmp_path):
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    startup = [file.relative_to(ROOT) for file in (ROOT / "ultralytics").rglob("startup/ultralytics_compress*")]
    assert {file.as_posix() for file in [*list_overlay(), *startup]} <= names


def test_editable_install_resolves_to_the_checkout(editable, project):
    overlay, own = editable.python(
        "import ultralytics.models.yolo.detect as own, ultralytics.models.yolo.detect.compress as overlay, "
        "ultralytics.cfg as cfg; assert 'compress' in cfg.MODES; print(overlay.__file__, own.__file__, sep='\\n')"
    ).splitlines()
    assert Path(overlay) == project / "ultralytics/models/yolo/detect/compress.py"
    assert Path(own) == editable.site_packages / "ultralytics/models/yolo/detect/__init__.py"


def test_ultralytics_is_found_from_the_root_of_the_checkout(environment, project):
    file = environment.site_packages / "ultralytics/cfg/__init__.py"
    assert environment.python(IS_ACTIVE, cwd=project) == f"{file} True"


def test_own_data_sets_are_found_by_name(environment, project):
    file = environment.python("from ultralytics.data import utils; print(utils.check_file('shapes-cls.yaml'))")
    assert Path(file).read_bytes() == (project / "ultralytics/cfg/datasets/shapes-cls.yaml").read_bytes()


def test_startup_imports_nothing_heavy(environment):
    modules = set(environment.python("import sys; print(*sys.modules)").split())
    assert "ultralytics_compress_startup" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY


def test_startup_costs_under_five_milliseconds(environment):
    def measure():
        log = environment.run(environment.scripts / "python", "-X", "importtime", "-c", "").stderr
        return int(re.search(r"(\d+) \|\s+ultralytics_compress_startup$", log, re.MULTILINE).group(1))

    assert min(measure() for _ in range(5)) < 5000  # microseconds; the least, as other programs only add to it


def test_yolo_command_is_activated(environment):
    assert "yolo compress" in environment.run(environment.scripts / "yolo", "help", YOLO_VERBOSE="true").stdout


def test_hook_keeps_the_loader_whole(installed):
    installed.python(
        "import importlib, importlib.resources, inspect, ultralytics.cfg as cfg\n"
        "assert cfg.__loader__ is cfg.__spec__.loader and cfg.__loader__.is_package('ultralytics.cfg')\n"
        "assert cfg.__loader__.get_code('ultralytics.cfg') and inspect.getsource(cfg)\n"
        "assert (importlib.resources.files(cfg) / 'default.yaml').is_file()\n"
        "assert 'compress' in importlib.reload(cfg).MODES"
    )


def test_hook_lets_modules_run_as_scripts(installed):
    installed.run(installed.scripts / "python", "-m", "ultralytics.cfg.__init__", "version")


@pytest.mark.parametrize("first", ["ultralytics", "ultralytics.nn.tasks"])  # which then imports ultralytics.cfg
def test_overlay_that_cannot_be_imported_leaves_ultralytics_whole(first, installed):
    init = installed.site_packages / "ultralytics/cfg/compress/__init__.py"
    content = init.read_text()
    try:
        init.write_text("import a_missing_dependency")
        code = "from ultralytics import YOLO, cfg; print(YOLO('yolov8n.yaml').task, 'compress' in cfg.MODES)"
        process = installed.run(installed.scripts / "python", "-c", f"import {first}; {code}", YOLO_VERBOSE="true")
    finally:
        init.write_text(content)
    assert process.stdout.endswith("detect False\n")
    assert (process.stdout + process.stderr).count("is off") == 1
    assert re.search(
        r"ultralytics-compress \d+\.\d+\.\d+ is off: .* Ultralytics \d+\.\d+\.\d+ \(ModuleNotFoundError: "
        r"No module named 'a_missing_dependency'\)",
        process.stdout + process.stderr,
    )


def test_reinstalling_ultralytics_keeps_the_overlay(environment, ultralytics_wheel):
    environment.install("--no-compile", ultralytics_wheel)
    assert environment.python(IS_ACTIVE).endswith(" True")


@pytest.mark.parametrize("how", [(), ("-e",)], ids=["installed", "editable"])
def test_uninstall_leaves_ultralytics_as_it_was(how, stock, project):
    before = stock.hash_files()
    stock.install(*how, project)
    during = stock.hash_files()
    stock.run(stock.scripts / "python", "-m", "pip", "uninstall", "--yes", "ultralytics-compress")
    assert before.items() < during.items()
    assert stock.hash_files() == before


def test_drop_in_copy_activates_on_import(stock, project, ultralytics_checkout, tmp_path):
    checkout = tmp_path / "fork"
    shutil.copytree(ultralytics_checkout, checkout)
    shutil.copytree(project / "ultralytics", checkout / "ultralytics", dirs_exist_ok=True)
    printed = stock.python(
        "from ultralytics.data import utils\nfrom ultralytics.engine import exporter, trainer, validator\n"
        "import ultralytics.models.yolo.detect.compress\n"
        "assert hasattr(utils.check_cls_dataset, '__wrapped__')\n"
        "assert all(m.check_cls_dataset is utils.check_cls_dataset for m in (exporter, trainer, validator))\n"
        f"{IS_ACTIVE}",
        cwd=checkout,
    )
    assert printed == f"{checkout / 'ultralytics/cfg/__init__.py'} True"


LIBRARY_IN_USE = """
import sys
from ultralytics import YOLO
assert "torch_pruning" not in sys.modules
from ultralytics.engine.pruning import METHODS, Budget, largest_difference, prune_model, save_pruned
import torch
model = YOLO("yolov8n.yaml").model
pruned, record = prune_model(model, Budget(speed_up=2.0), prune_method="lamp")
save_pruned("prune.pt", pruned, record)
print(len(METHODS), largest_difference(model, pruned, record, torch.rand(1, 3, 64, 64)) < 1e-4, YOLO("prune.pt").task)
"""


@pytest.mark.parametrize("how", ["installed", "editable", "drop-in"])
def test_library_is_imported_by_its_public_names(how, request, stock, project, ultralytics_checkout, tmp_path):
    folder = tmp_path
    if how == "drop-in":
        folder = tmp_path / "fork"
        shutil.copytree(ultralytics_checkout, folder)
        shutil.copytree(project / "ultralytics", folder / "ultralytics", dirs_exist_ok=True)
    environment = stock if how == "drop-in" else request.getfixturevalue(how)
    assert environment.python(LIBRARY_IN_USE, cwd=folder).splitlines()[-1] == "10 True detect"


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("-e",)], ids=["installed", "editable"])
def test_editable_install_of_ultralytics_is_not_hidden(
    how, borrowed, ultralytics_wheel, ultralytics_checkout, project, tmp_path
):
    checkout = tmp_path / "fork"
    shutil.copytree(ultralytics_checkout, checkout)
    (checkout / "setup.py").write_text(
        "import setuptools\nsetuptools.setup(name='ultralytics', version='9.0', packages=setuptools.find_packages())"
    )
    environment = Environment(tmp_path / "environment", borrowed, ultralytics_wheel)
    environment.install("-e", checkout)
    environment.install(*how, project)
    assert environment.python(IS_ACTIVE) == f"{checkout / 'ultralytics/cfg/__init__.py'} True"
