# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a checkpoint's pickle names, without loading it."""

from __future__ import annotations

import importlib.util
import pickletools
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ELSEWHERE = ("__builtin__", "copy_reg", "numpy")  # Python's, by the names of old pickles, and what NumPy has moved


def strings(file: str | Path, kind: str = "") -> Iterator[str]:
    """Yield the strings in a checkpoint's pickle, and 'module name' for the classes.

    Args:
        file (str | Path): Checkpoint, a zip archive.
        kind (str): Name of an opcode of pickles, of which alone they are to be; 'GLOBAL' has the classes.
    """
    with zipfile.ZipFile(file) as archive:
        for name in (name for name in archive.namelist() if name.endswith("/data.pkl")):
            for opcode, word, _ in pickletools.genops(archive.read(name)):
                if isinstance(word, str) and kind in ("", opcode.name):
                    yield word


def absent_classes(file: str | Path) -> list[str]:
    """Return the classes that a checkpoint names and that cannot be found here, as those of forks and of others.

    Args:
        file (str | Path): Checkpoint.

    Returns:
        (list[str]): Their names with modules, sorted; empty for a file of another format.
    """
    if not zipfile.is_zipfile(file):
        return []
    named = {tuple(word.split(" ", 1)) for word in strings(file, "GLOBAL")}
    return sorted(
        f"{module}.{name}"
        for module, name in named
        if module.partition(".")[0] not in ELSEWHERE and not _is_here(module, name)
    )


def _is_here(module: str, name: str) -> bool:
    """Return True if a module can be found and, if it has been imported, has a class of this name."""
    return hasattr(sys.modules[module], name) if module in sys.modules else _can_be_found(module)


def _can_be_found(module: str) -> bool:
    """Return True if a module, or the first of its packages that has not been imported, can be found; imports none."""
    package = module.rpartition(".")[0]
    if package and package not in sys.modules:
        return _can_be_found(package)
    return importlib.util.find_spec(module) is not None
