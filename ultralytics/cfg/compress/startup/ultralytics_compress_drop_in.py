# SPDX-License-Identifier: AGPL-3.0-or-later
"""Copy the extension into a fork of Ultralytics, bring the copy up to date, or take it out again.

Usage:
    python -m ultralytics_compress_drop_in FORK [--dry-run] [--remove]

From a checkout, which need not be installed, the file is run by its path. It imports neither Ultralytics nor the fork,
which may be broken. What it copies is listed with hashes in one file of the fork, written before anything else, so that
a run that was killed is finished, or undone, by the next. Nothing but what is listed there is replaced or removed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

PACKAGE = "ultralytics-compress"
MANIFEST = ".ultralytics-compress.json"
ASIDE = ".before-ultralytics-compress"  # suffix of what stood in the way
MOVABLE = re.compile(r"ultralytics/(models/.+/compress\.py|cfg/hyp\.scratch\.sl\.yaml)")  # names of the copied recipe
SHARED = "ultralytics/nn/extra_modules/__init__.py"  # ours is empty: theirs does as well
OLDEST = (8, 3, 0)  # Ultralytics
LOGGER = logging.getLogger("ultralytics_compress_drop_in")


class Refused(Exception):
    """The fork, or what is in it, cannot take the extension; nothing has been done."""


@dataclass
class Manifest:
    """What has been, or is being, copied into a fork.

    Attributes:
        file (Path): Where it is kept.
        files (dict[str, list[str]]): Name of a file of ours to the SHA-256 of what it may hold: during an update, of
            both versions.
        aside (dict[str, str]): Name of a file of theirs that was moved aside to its SHA-256.
        folders (list[str]): Folders that were made.
    """

    file: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, fork: Path) -> Manifest:
        """Return that of a fork, an empty one if it has none."""
        file = fork / MANIFEST
        return cls(file, **json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else cls(file)

    def write(self) -> None:
        """Keep it in the fork."""
        content = {"files": self.files, "aside": self.aside, "folders": self.folders}
        write_whole(self.file, f"{json.dumps(content, indent=2)}\n".encode())


def write_whole(file: Path, content: bytes) -> None:
    """Write a file at once or not at all."""
    temporary = temporary_of(file)
    with temporary.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(file)


def temporary_of(file: Path) -> Path:
    """Return the name under which a file is written."""
    return file.with_name(f"{file.name}.{PACKAGE}.tmp")


def aside_of(file: Path) -> Path:
    """Return the name under which a file of theirs is kept."""
    return file.with_name(f"{file.name}{ASIDE}")


def hash_of(file: Path) -> str:
    """Return the SHA-256 of a file; of none, an empty string."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def find_overlay() -> dict[str, Path]:
    """Return the extension's files by their names in a fork: those of this checkout, or of the installed package."""
    here = Path(__file__).resolve()
    if here.parent.name == "startup":
        return list_checkout(here.parents[4])
    package = next(iter(Distribution.discover(name=PACKAGE, path=[str(here.parent)])), None)
    if package is None:
        raise Refused(f"{PACKAGE} is not installed beside '{here}'. Run this file in a checkout of it.")
    installed = {file.as_posix(): Path(file.locate()) for file in package.files or ()}
    overlay = {name: file for name, file in installed.items() if name.startswith("ultralytics/") and ".pyc" not in name}
    if overlay:
        return overlay
    source = json.loads(package.read_text("direct_url.json") or "{}").get("url", "")  # of an editable install
    return list_checkout(Path(url2pathname(urlparse(source).path)))


def list_checkout(root: Path) -> dict[str, Path]:
    """Return the files of a checkout's overlay, without the start-up files, which only an installation needs."""
    files = [file for file in (root / "ultralytics").rglob("*") if file.suffix in {".py", ".yaml", ".html"}]
    return {file.relative_to(root).as_posix(): file for file in sorted(files) if file.parent.name != "startup"}


def check_fork(fork: Path, overlay: dict[str, Path]) -> None:
    """Refuse a folder that is no checkout of Ultralytics, or one that is too old.

    Args:
        fork (Path): Folder that holds the folder 'ultralytics'.
        overlay (dict[str, Path]): The extension's files.

    Raises:
        Refused: With what to do instead.
    """
    init = fork / "ultralytics" / "__init__.py"
    if not init.is_file():
        hint = f" Pass '{fork.parent}'." if (fork / "__init__.py").is_file() else ""
        raise Refused(f"'{fork}' has no 'ultralytics/__init__.py', so it is no checkout of Ultralytics.{hint}")
    if any(file == (fork / name).resolve() for name, file in overlay.items()):
        raise Refused(f"'{fork}' is where {PACKAGE} is installed: there is nothing to copy.")
    found = re.search(r"^__version__ = [\"'](\d+)\.(\d+)\.(\d+)", init.read_text(encoding="utf-8"), re.MULTILINE)
    if found and tuple(map(int, found.groups())) < OLDEST:
        raise Refused(
            f"'{fork}' is Ultralytics {'.'.join(found.groups())}, and {PACKAGE} needs {'.'.join(map(str, OLDEST))} or "
            f"newer. Compress in an environment of its own (pip install {PACKAGE}): the fine-tuned checkpoint holds "
            "classes of Ultralytics alone and loads in your fork, if it has them."
        )


def check_imports(fork: Path) -> None:
    """Refuse a fork whose packages import a compress module: ours needs an Ultralytics that has been imported.

    Args:
        fork (Path): Folder that holds the folder 'ultralytics'.

    Raises:
        Refused: With the lines to take out.
    """
    for init in (fork / "ultralytics").rglob("__init__.py"):
        for number, line in enumerate(init.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.match(r"\s*from\s+(\S*\.)?compress\s+import\b|\s*import\s+\S*\.compress\b", line):
                where = init.relative_to(fork).as_posix()
                raise Refused(f"'{fork}': {where}, line {number}, imports compress itself. Take '{line.strip()}' out.")


def copy(fork: Path, overlay: dict[str, Path], dry_run: bool) -> None:
    """Copy the extension, or bring a copy up to date.

    Args:
        fork (Path): Folder that holds the folder 'ultralytics'.
        overlay (dict[str, Path]): The extension's files.
        dry_run (bool): Say what would be done alone.

    Raises:
        Refused: If a file of theirs that is none of the copied recipe's has a name of ours, or one of ours was changed.
    """
    check_fork(fork, overlay)
    check_imports(fork)
    manifest = Manifest.read(fork)
    new = {name: hash_of(file) for name, file in overlay.items()}
    if hash_of(fork / SHARED) not in {"", *manifest.files.get(SHARED, ())}:
        new.pop(SHARED, None)  # which an installation by pip lacks
        manifest.files.pop(SHARED, None)
    now = {name: hash_of(fork / name) for name in {*new, *manifest.files}}
    ours = {name: {*manifest.files.get(name, ()), new.get(name, "")} for name in now}
    foreign = sorted(name for name, found in now.items() if found and found not in ours[name])
    # theirs may be back (from version control), or not have been moved yet (by a run that was killed)
    foreign = [name for name in foreign if now[name] != hash_of(aside_of(fork / name))]
    changed = [name for name in foreign if name in manifest.files and now[name] != manifest.aside.get(name)]
    others = [name for name in foreign if name not in changed and not MOVABLE.fullmatch(name)]
    if changed:
        raise Refused(f"changed since they were copied: {', '.join(changed)}. Undo the changes or move them elsewhere.")
    if others:
        raise Refused(f"'{fork}' has files of its own where ours go: {', '.join(others)}. Rename them.")
    taken = [name for name in foreign if os.path.lexists(aside_of(fork / name))]
    if taken:
        raise Refused(f"already in '{fork}': {', '.join(f'{name}{ASIDE}' for name in taken)}. Rename them.")
    outdated = [name for name in now if name not in new and now[name]]
    fresh = [name for name in new if now[name] != new[name]]
    folders = sorted({p.as_posix() for name in new for p in Path(name).parents if not (fork / p).exists()})
    for name in foreign:
        LOGGER.info("move aside %s to %s%s", name, name, ASIDE)
    LOGGER.info("%s: %d files to copy, %d up to date", fork, len(fresh), len(new) - len(fresh))
    for name in outdated:
        LOGGER.info("remove %s, which is not needed any more", name)
    warn_of_keys(fork, overlay)
    if dry_run:
        return
    manifest.files = {name: sorted(ours[name] - {""}) for name in now}
    manifest.aside |= {name: now[name] for name in foreign}
    manifest.folders = sorted({*manifest.folders, *folders})
    manifest.write()
    for name in foreign:
        (fork / name).rename(aside_of(fork / name))
    for name in fresh:
        (fork / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(fork / name, overlay[name].read_bytes())
    for name in outdated:
        take_out(fork / name)
    manifest.files = {name: [digest] for name, digest in new.items()}
    manifest.write()


def warn_of_keys(fork: Path, overlay: dict[str, Path]) -> None:
    """Say which keys of ours a fork's own defaults have, with which the extension stays off."""
    files = (overlay["ultralytics/cfg/compress/compress_keys.yaml"], fork / "ultralytics/cfg/default.yaml")
    own, theirs = (set(re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)) for file in files)
    if both := sorted(own & theirs):
        LOGGER.warning("ultralytics/cfg/default.yaml has %s: take them out, or compress stays off", ", ".join(both))


def remove(fork: Path, dry_run: bool) -> None:
    """Take the extension out again, and put back what was moved aside.

    Args:
        fork (Path): Folder that holds the folder 'ultralytics'.
        dry_run (bool): Say what would be done alone.

    Raises:
        Refused: If there is none.
    """
    manifest = Manifest.read(fork)
    if not manifest.file.is_file():
        raise Refused(f"'{fork}' has no {MANIFEST}, so there is nothing to remove.")
    now = {name: hash_of(fork / name) for name in manifest.files}
    theirs = {name for name, digest in manifest.aside.items() if now[name] == digest}
    ours = [name for name, found in now.items() if found in manifest.files[name] and name not in theirs]
    changed = [name for name, found in now.items() if found and name not in theirs and name not in ours]
    back = [name for name in manifest.aside if aside_of(fork / name).exists() and name not in changed]
    for name in changed:
        LOGGER.warning("left, since it was changed after it was copied: %s", name)
    for name in back:
        LOGGER.info("move back %s%s to %s", name, ASIDE, name)
    LOGGER.info("%s: %d files to remove", fork, len(ours))
    if dry_run:
        return
    for name in (*manifest.files, MANIFEST):
        temporary_of(fork / name).unlink(missing_ok=True)
    for name in ours:
        take_out(fork / name, compiled=name not in manifest.aside)
    for name in back:
        aside_of(fork / name).replace(fork / name)
    for folder in sorted(manifest.folders, reverse=True):  # inner ones first
        if (fork / folder).is_dir() and not any((fork / folder).iterdir()):
            (fork / folder).rmdir()
    manifest.file.unlink()


def take_out(file: Path, compiled: bool = True) -> None:
    """Delete a file of ours and what Python has compiled of it, unless that may be of theirs of the same name."""
    file.unlink()
    cache = file.parent / "__pycache__"
    for cached in cache.glob(f"{file.stem}.*.pyc") if compiled else ():
        cached.unlink()
    if cache.is_dir() and not any(cache.iterdir()):
        cache.rmdir()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="ultralytics_compress_drop_in", description=__doc__.partition("\n")[0])
    parser.add_argument("fork", type=Path, help="folder that holds the fork's folder 'ultralytics'")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--remove", action="store_true", help="take it out again")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        if args.remove:
            remove(args.fork.resolve(), args.dry_run)
        else:
            copy(args.fork.resolve(), find_overlay(), args.dry_run)
    except Refused as error:
        sys.exit(f"{PACKAGE}: {error}")


if __name__ == "__main__":
    main()
