# SPDX-License-Identifier: AGPL-3.0-or-later
"""Atomic writing of files, JSON and CSV in particular; reading CSV; SHA-256."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # name of the file and of the process that writes it


@contextmanager
def written_whole(file: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `file` to write to; rename it to `file` when the block ends without an error.

    Args:
        file (str | Path): The file to write.

    Yields:
        (Path): Where to write instead.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: Path) -> None:
    """Remove what processes that were killed inside `written_whole` have left in a folder and in those in it."""
    for file in folder.rglob("*.tmp"):
        name = TEMPORARY.fullmatch(file.name)
        if name and not psutil.pid_exists(int(name[1])):
            file.unlink(missing_ok=True)


def holds_nothing(folder: Path) -> bool:
    """Return True for a folder without files, but for hidden ones: locks and those that `written_whole` renames."""
    return not any(file.is_file() and not file.name.startswith(".") for file in folder.rglob("*"))


def write_json(file: str | Path, content: Any, indent: int | None = 2) -> None:
    """Write plain types as JSON, whole.

    Args:
        file (str | Path): The file to write.
        content (Any): What `json` can encode.
        indent (int, optional): Spaces per level; None writes one line.
    """
    with written_whole(file) as temporary:
        temporary.write_text(json.dumps(content, indent=indent), encoding="utf-8")


def write_csv(file: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole, under a heading of the first row's keys.

    Args:
        file (str | Path): The file to write.
        rows (Sequence[Mapping[str, Any]]): One row or more, of the same keys.
    """
    with written_whole(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def read_csv(file: str | Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a heading, keys without the spaces that Ultralytics' results.csv may have."""
    with open(file, encoding="utf-8", newline="") as f:
        return [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(f)]


def sha256(file: str | Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(file, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
