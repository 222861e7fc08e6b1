# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every way of installing the overlay activates it, and none leaves a trace in Ultralytics.

Each environment is a real one with a real Ultralytics distribution (a wheel zipped from the installed files); only
torch and the like are borrowed, through links to the running environment's packages.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE_PACKAGES = Path(distribution("ultralytics").locate_file(""))
IS_ACTIVE = "import ultralytics.cfg as cfg; print(cfg.__file__, 'compress' in cfg.MODES)"
HEAVY = {"torch", "numpy", "cv2", "yaml", "ultralytics", "torch_pruning"}


class Environment:
    """A virtual environment that borrows the running one's packages, all but Ultralytics and the overlay."""

    def __init__(self, folder, borrowed, ultralytics_wheel):
        venv.create(folder)
        self.folder = folder
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        # Python writes no bytecode here, so that every file that appears or stays is somebody's doing.
        self.environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "YOLO_CONFIG_DIR": str(folder),
            "YOLO_VERBOSE": "false",
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
        }
        self.site_packages = Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))"))
        (self.site_packages / "borrowed.pth").write_text(str(borrowed))
        self.install("--no-compile", ultralytics_wheel)

    def run(self, *command, cwd=None, **environ):
        """Return the finished process of a command, which must succeed."""
        process = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
        return process

    def python(self, code, cwd=None):
        """Return what a piece of Python prints."""
        return self.run(self.scripts / "python", "-c", code, cwd=cwd).stdout.strip()

    def install(self, *args):
        """Let pip install from given files, never from an index."""
        options = ("--force-reinstall", "--no-deps", "--no-index", "--no-build-isolation")
        self.run(self.scripts / "python", "-m", "pip", "--disable-pip-version-check", "install", *options, *args)

    def hash_files(self):
        """Return the sha256 of every file of the environment's site-packages and scripts, by path."""
        files = [file for folder in (self.site_packages, self.scripts) for file in folder.rglob("*") if file.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def list_overlay():
    """List the overlay's files, relative to the folder that holds `ultralytics`."""
    files = [file for file in (ROOT / "ultralytics").rglob("*") if file.suffix in {".py", ".yaml", ".html"}]
    return [file.relative_to(ROOT) for file in files if file.parent.name != "startup"]


@pytest.fixture(scope="module")
def ultralytics_files():
    """Return the files that belong to the installed Ultralytics distribution itself, the overlay's not among them."""
    names = [Path(file) for file in distribution("ultralytics").files]
    return [name for name in names if name.parts[0] != ".." and name.suffix != ".pyc"]


@pytest.fixture(scope="module")
def borrowed(tmp_path_factory):
    """Return a folder of links to the running environment's packages, all but Ultralytics and the overlay."""
    folder = tmp_path_factory.mktemp("borrowed")
    kept_out = re.compile(r"ultralytics(-\d.*|[-_]compress.*)?|__editable__.*|__pycache__|.*\.pth")
    for entry in SITE_PACKAGES.iterdir():
        if not kept_out.fullmatch(entry.name):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def ultralytics_wheel(ultralytics_files, tmp_path_factory):
    """Zip the installed Ultralytics into a wheel."""
    version = distribution("ultralytics").version
    wheel = tmp_path_factory.mktemp("wheel") / f"ultralytics-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        written_by_pip = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
        kept = [name for name in ultralytics_files if name.name not in written_by_pip]
        for name in kept:
            archive.write(SITE_PACKAGES / name, name.as_posix())
        record = f"ultralytics-{version}.dist-info/RECORD"
        archive.writestr(record, "".join(f"{name},,\n" for name in [*map(Path.as_posix, kept), record]))
    return wheel


@pytest.fixture(scope="module")
def ultralytics_checkout(ultralytics_files, tmp_path_factory):
    """Return a folder like somebody's own checkout of Ultralytics, with the package only."""
    checkout = tmp_path_factory.mktemp("fork")
    for name in ultralytics_files:
        if name.parts[0] == "ultralytics":
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SITE_PACKAGES / name, checkout / name)
    return checkout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of this project as a clean checkout has it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "ultralytics", folder / "ultralytics", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE", "compress.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def stock(borrowed, ultralytics_wheel, tmp_path_factory):
    """Return an environment with Ultralytics alone."""
    return Environment(tmp_path_factory.mktemp("stock"), borrowed, ultralytics_wheel)


@pytest.fixture(scope="module")
def installed(borrowed, ultralytics_wheel, project, tmp_path_factory):
    """Return an environment after `pip install .`."""
    environment = Environment(tmp_path_factory.mktemp("installed"), borrowed, ultralytics_wheel)
    environment.install(project)
    return environment


@pytest.fixture(scope="module")
def editable(borrowed, ultralytics_wheel, project, tmp_path_factory):
    """Return an environment after `pip install -e .`."""
    environment = Environment(tmp_path_factory.mktemp("editable"), borrowed, ultralytics_wheel)
    environment.install("-e", project)
    return environment


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


def test_errors_of_the_overlay_surface(stock, project, ultralytics_checkout, tmp_path):
    checkout = tmp_path / "fork"
    shutil.copytree(ultralytics_checkout, checkout)
    (checkout / "ultralytics/cfg/compress").mkdir()
    (checkout / "ultralytics/cfg/compress/__init__.py").write_text("import a_missing_dependency")
    startup = project / "ultralytics/cfg/compress/startup"
    name = stock.python(
        f"import sys; sys.path.append({str(startup)!r}); import ultralytics_compress_startup\n"
        "try: import ultralytics.cfg\n"
        "except ModuleNotFoundError as error: print(error.name)",
        cwd=checkout,
    )
    assert name == "a_missing_dependency"


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


def test_checkout_without_overlay_is_left_alone(installed, ultralytics_checkout):
    printed = installed.python(f"from ultralytics import YOLO; YOLO; {IS_ACTIVE}", cwd=ultralytics_checkout)
    assert printed == f"{ultralytics_checkout / 'ultralytics/cfg/__init__.py'} False"


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
    # Installed to site-packages, the overlay isn't beside that checkout.
    assert environment.python(IS_ACTIVE) == f"{checkout / 'ultralytics/cfg/__init__.py'} {how == ('-e',)}"
