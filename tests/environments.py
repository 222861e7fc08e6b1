# SPDX-License-Identifier: AGPL-3.0-or-later
"""Real environments with a real Ultralytics distribution (a wheel zipped from the installed files).

Only torch and the like are borrowed, through links to the running environment's packages.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE_PACKAGES = Path(distribution("ultralytics").locate_file(""))


class Environment:
    """A virtual environment that borrows the running one's packages, all but Ultralytics and the overlay."""

    def __init__(self, folder, borrowed, ultralytics_wheel=None):
        venv.create(folder)
        self.folder = folder
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        # Python writes no bytecode here, so that every file that appears or stays is somebody's doing.
        self.environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",  # Ultralytics lists wrong keys in the order of a set
            "YOLO_CONFIG_DIR": str(folder),
            "YOLO_VERBOSE": "false",
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
        }
        self.site_packages = Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))"))
        (self.site_packages / "borrowed.pth").write_text(str(borrowed))
        if ultralytics_wheel:
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

    def python(self, code, cwd=None, **environ):
        """Return what a piece of Python prints."""
        return self.run(self.scripts / "python", "-c", code, cwd=cwd, **environ).stdout.strip()

    def install(self, *args):
        """Let pip install from given files, never from an index."""
        options = ("--force-reinstall", "--no-deps", "--no-index", "--no-build-isolation")
        self.run(self.scripts / "python", "-m", "pip", "--disable-pip-version-check", "install", *options, *args)

    def hash_files(self):
        """Return the sha256 of every file of the environment's site-packages and scripts, by path."""
        files = [file for folder in (self.site_packages, self.scripts) for file in folder.rglob("*") if file.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="session")
def ultralytics_files():
    """Return the files that belong to the installed Ultralytics distribution itself, the overlay's not among them."""
    names = [Path(file) for file in distribution("ultralytics").files]
    return [name for name in names if name.parts[0] != ".." and name.suffix != ".pyc"]


@pytest.fixture(scope="session")
def borrowed(tmp_path_factory):
    """Return a folder of links to the running environment's packages, all but Ultralytics and the overlay."""
    folder = tmp_path_factory.mktemp("borrowed")
    kept_out = re.compile(r"ultralytics(-\d.*|[-_]compress.*)?|__editable__.*|__pycache__|.*\.pth")
    layers = [path for path in map(Path, sys.path) if path.name == "site-packages"]  # the running one may borrow itself
    found = set()
    for layer in layers:
        names = {entry: re.sub(r"-\d.*(?=\.dist-info)", "", entry.name) for entry in layer.iterdir()}  # of any version
        for entry, name in names.items():
            if not kept_out.fullmatch(entry.name) and name not in found:
                (folder / entry.name).symlink_to(entry)
        found |= {*names.values()}
    return folder


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def ultralytics_checkout(ultralytics_files, tmp_path_factory):
    """Return a folder like somebody's own checkout of Ultralytics, with the package only."""
    checkout = tmp_path_factory.mktemp("fork")
    for name in ultralytics_files:
        if name.parts[0] == "ultralytics":
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SITE_PACKAGES / name, checkout / name)
    return checkout


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """Return a copy of this project as a clean checkout has it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "ultralytics", folder / "ultralytics", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE", "compress.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def stock(borrowed, ultralytics_wheel, tmp_path_factory):
    """Return an environment with Ultralytics alone."""
    return Environment(tmp_path_factory.mktemp("stock"), borrowed, ultralytics_wheel)


@pytest.fixture(scope="session")
def installed(borrowed, ultralytics_wheel, project, tmp_path_factory):
    """Return an environment after `pip install .`."""
    environment = Environment(tmp_path_factory.mktemp("installed"), borrowed, ultralytics_wheel)
    environment.install(project)
    return environment


@pytest.fixture(scope="session")
def editable(borrowed, ultralytics_wheel, project, tmp_path_factory):
    """Return an environment after `pip install -e .`."""
    environment = Environment(tmp_path_factory.mktemp("editable"), borrowed, ultralytics_wheel)
    environment.install("-e", project)
    return environment
