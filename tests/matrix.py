# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tests in environments of other releases of what the package stands on, and the table of it in the docs.

    python tests/matrix.py                          every row, the tests that are not slow, each in a fresh environment
    python tests/matrix.py --short                  the oldest and the newest Ultralytics, the tests marked 'compat'
    python tests/matrix.py --rows "Ultralytics 8.4.0" --marked compat
    python tests/matrix.py --borrow                 on top of the running environment, but for what a row pins
    python tests/matrix.py --borrow --workers 2     with pytest-xdist
    python tests/matrix.py --rows ... --files ...   these files alone, and no table

Rows differ from a plain installation in one thing each. A row whose Python is not on this machine is named as such.
A row's line is written as soon as its tests have ended, so that what was stopped goes on with `--rows` and the others.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs/compatibility.md"
COMPAT = ROOT / "ultralytics/cfg/compress/compat/__init__.py"
HEADING = """# Which releases it is tested with

`python tests/matrix.py` writes this table: in each environment the package is installed and its tests run. A row pins
what its name says, and what that release needs beside it; the rest is what was newest on that day. Tests of what a
release lacks are skipped, with the name of what is missing. `not slow and not long` is the fast set. Tests of the
documents, of the benchmarks' scripts and of which module may import which are run with the newest releases alone: no
other release changes what they read. 'Again' are files of tests that failed for their own sake, were mended, and were
run by themselves in the same environment, made anew. Python 3.9 is left out: torch 2.8 was the last release for it, and
its own security fixes have ended.

| environment | Python | tests | passed | failed | skipped | date |
|---|---|---|---:|---:|---:|---|
"""
WITH: Mapping[str, tuple[str, ...]] = {  # pins of a release that its own requirements leave open or that came too late
    "ultralytics==8.3.0": ("numpy<2", "pandas<2.3"),
    "torch==2.0.1": ("torchvision==0.15.2", "numpy<2"),
    "torch==2.4.1": ("torchvision==0.19.1",),
    "torch==2.6.0": ("torchvision==0.21.0",),
}
NEWEST_ALONE = ("docs", "benchmarks", "test_docs.py", "test_rooms.py")  # tests that read no package, or only these


class Row(NamedTuple):
    """One environment.

    Attributes:
        name (str): Its name in the table.
        pins (tuple[str, ...]): What pip installs beside this package.
        python (str): Version of Python, empty for the running one.
    """

    name: str
    pins: tuple[str, ...] = ()
    python: str = ""


def tested_ultralytics() -> list[str]:
    """Return the releases of Ultralytics that the package names as tested, from its text."""
    return re.findall(r'"([\d.]+)"', re.search(r"^TESTED = \((.+?)\)", COMPAT.read_text("utf-8"), re.M | re.S)[1])


def list_rows() -> list[Row]:
    """Return all rows."""
    pinned = [
        *(f"ultralytics=={version}" for version in tested_ultralytics()),
        *(f"torch=={version}" for version in ("2.0.1", "2.4.1", "2.6.0")),
        "torch-pruning==1.5.3",
        *("numpy==1.26.4", "numpy>=2"),
    ]
    names = {"ultralytics": "Ultralytics", "numpy": "NumPy", "torch": "PyTorch", "torch-pruning": "torch-pruning"}
    rows = []
    for pin in pinned:
        package, version = re.match(r"([\w-]+?)(?:==|>=)(.+)", pin).groups()
        rows.append(Row(f"{names[package]} {version}", (pin, *WITH.get(pin, ()))))
    return [
        Row("newest of everything"),
        *rows,
        *(Row(f"Python 3.{minor}", (), f"3.{minor}") for minor in range(10, 15)),
    ]


def find_python(version: str) -> str | None:
    """Return the interpreter of a version, None if there is none: on the path, or among those of pyenv."""
    if not version:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    return next((python for python in found if python and runs(python)), None)


def runs(python: str) -> bool:
    """Return True for an interpreter that starts; pyenv's shims of versions that are not chosen do not."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def can_borrow(row: Row) -> bool:
    """Return True for a row of the running Python: compiled packages do not go with another one."""
    return row.python in {"", ".".join(map(str, sys.version_info[:2]))}


def make_environment(row: Row, folder: Path, borrow: bool) -> Path:
    """Install a row's packages and this one, and return the environment's interpreter.

    Raises:
        subprocess.CalledProcessError: If pip finds no such packages.
    """
    own_pip = ["--without-pip"] if borrow else []  # and its setuptools, which would be older than the borrowed one
    subprocess.run([find_python(row.python), "-m", "venv", *own_pip, folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    project = folder / "project"  # a build leaves its folders there
    ignored = (".git", ".venv", ".*_cache", "build", "*.egg-info", "__pycache__", "runs")
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*ignored))
    if borrow:
        packages = Path(subprocess.check_output([python, "-c", SITE_PACKAGES], text=True).strip())
        (packages / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        if not any(pin.startswith("ultralytics=") for pin in row.pins):  # which is to lie beside this package
            same = f"ultralytics=={metadata.version('ultralytics')}"
            subprocess.run([*pip, "--no-deps", "--ignore-installed", same], check=True)
        if row.pins:
            subprocess.run([*pip, "--no-warn-conflicts", *row.pins], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", project], check=True)
    else:
        subprocess.run([*pip, f"{project}[test,export]", *row.pins], check=True)
    return python


SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def run_tests(
    row: Row, python: Path, folder: Path, marked: str, workers: int, files: Sequence[str] = ()
) -> dict[str, int]:
    """Return how many tests passed, failed and were skipped."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfEs", "--continue-on-collection-errors"]
    command += ["-m", marked, "--junitxml", folder / "tests.xml"]
    command += ["-n", workers, "--dist", "loadfile"] if workers else []
    command += [f"--ignore=tests/{path}" for path in NEWEST_ALONE if row.pins or row.python]
    command += files
    subprocess.run(list(map(str, command)), cwd=folder / "project", env=environ)
    if not (folder / "tests.xml").exists():  # pytest has not come to the first test
        return {"passed": 0, "failed": 1, "skipped": 0}
    suite = ElementTree.parse(folder / "tests.xml").getroot()[0]
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"]}


def read_table() -> dict[str, str]:
    """Return the lines of the table by the names of their rows."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    return {
        line.split("|")[1].strip(): line for line in lines if line.startswith("| ") and "| environment " not in line
    }


def write_table(lines: Mapping[str, str]) -> None:
    """Write the table, rows in the order of `list_rows`."""
    names = [row.name for row in list_rows()]
    TABLE.parent.mkdir(exist_ok=True)
    ordered = sorted(lines, key=lambda name: names.index(name) if name in names else -1)
    TABLE.write_text(HEADING + "".join(f"{lines[name]}\n" for name in ordered), encoding="utf-8")


def run_row(row: Row, marked: str, borrow: bool, workers: int, files: Sequence[str] = ()) -> tuple[str, bool]:
    """Return the table's line of a row, and whether it is good."""
    if find_python(row.python) is None:
        return f"| {row.name} | {row.python} | not run: no such Python on the machine | | | | {date.today()} |", True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        try:
            python = make_environment(row, Path(name), borrow and can_borrow(row))
        except subprocess.CalledProcessError as error:
            return f"| {row.name} | {row.python} | not installed: {error.args[0]} | | | | {date.today()} |", False
        release = subprocess.check_output([python, "-c", "import sys; print(sys.version.split()[0])"], text=True)
        count = run_tests(row, python, Path(name), marked, workers, files)
    figures = " | ".join(str(count[key]) for key in ("passed", "failed", "skipped"))
    return f"| {row.name} | {release.strip()} | {marked} | {figures} | {date.today()} |", not count["failed"]


def main() -> None:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", help="names of rows, i.e. 'Ultralytics 8.4.0'; by default all")
    parser.add_argument("--files", nargs="+", default=[], help="files of tests, by default all; for no table")
    parser.add_argument("--marked", default="not slow and not long", help="pytest's -m")
    parser.add_argument("--borrow", action="store_true", help="take what a row does not pin from this environment")
    parser.add_argument("--workers", type=int, default=0, help="processes of pytest-xdist, by default none")
    parser.add_argument("--names", action="store_true", help="print the names of all rows as JSON, and do nothing else")
    parser.add_argument("--short", action="store_true", help="the oldest Ultralytics, tests marked 'compat', no table")
    args = parser.parse_args()
    rows = {row.name: row for row in list_rows()}
    if args.names:
        sys.stdout.write(f"{json.dumps([*rows])}\n")
        return
    names = [f"Ultralytics {tested_ultralytics()[0]}"] if args.short else args.rows or [*rows]
    if unknown := [name for name in names if name not in rows]:
        parser.error(f"no such row: {', '.join(unknown)}. Rows are: {', '.join(rows)}")
    good = True
    for name in names:
        marked = "compat" if args.short else args.marked
        line, passed = run_row(rows[name], marked, args.borrow or args.short, args.workers, args.files)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        good = good and passed
        if not args.short and not args.files:
            write_table({**read_table(), name: line})
    sys.exit(not good)


if __name__ == "__main__":
    main()
