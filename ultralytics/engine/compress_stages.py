# SPDX-License-Identifier: AGPL-3.0-or-later
"""Stages of a compress run: which are complete and in which folder, so that a run can go on where it stopped."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from ultralytics.cfg import get_save_dir
from ultralytics.engine.pruning.files import written_whole
from ultralytics.utils import YAML

STAGES_FILE = "stages.yaml"


class Stages:
    """Record of a run's stages, kept in its folder in `stages.yaml`.

    Attributes:
        file (Path): The record.
    """

    def __init__(self, save_dir: Path, resume: bool):
        """Read the record of a run to resume; of another run in the same folder, remove it.

        Args:
            save_dir (Path): Run folder of the compressor.
            resume (bool): Go on with what is there.
        """
        self.file = save_dir / STAGES_FILE
        if not resume:
            self.file.unlink(missing_ok=True)
        self._stages: dict[str, dict[str, str]] = YAML.load(self.file) if resume else {}

    def begin(self, stage: str, folder: Path) -> None:
        """Note the folder in which a stage works."""
        self._save(stage, {"folder": str(folder)})

    def complete(self, stage: str, result: Path) -> None:
        """Note the file that a stage has made."""
        self._save(stage, {**self._stages.get(stage, {}), "result": str(result)})

    def folder(self, stage: str) -> Path | None:
        """Return the folder of a stage that has begun."""
        folder = self._stages.get(stage, {}).get("folder")
        return Path(folder) if folder else None

    def result(self, stage: str) -> Path | None:
        """Return the file that a complete stage has made."""
        result = self._stages.get(stage, {}).get("result")
        return Path(result) if result else None

    def _save(self, stage: str, entry: dict[str, str]) -> None:
        self._stages[stage] = entry
        with written_whole(self.file) as temporary:
            YAML.save(temporary, self._stages)


def find_run(args: dict, holds: str) -> Path | None:
    """Return the newest run folder of a name, the numbered ones of repeated runs included.

    Args:
        args (dict): Arguments of the run; 'project', 'name', 'task' and 'mode' say where its folder is.
        holds (str): File that the folder must hold.

    Returns:
        (Path | None): The folder, or None if there is none.
    """
    place = {k: args.get(k) for k in ("project", "name", "task", "mode")}
    first = get_save_dir(SimpleNamespace(**place, exist_ok=True, save_dir=None))
    numbered = re.compile(rf"{re.escape(first.name)}(-?\d+)?")
    runs = [d for d in first.parent.glob(f"{first.name}*") if numbered.fullmatch(d.name) and (d / holds).exists()]
    return max(runs, key=lambda d: (d / holds).stat().st_mtime, default=None)
