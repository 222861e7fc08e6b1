# SPDX-License-Identifier: AGPL-3.0-or-later
"""Stages of a compress run: which are complete and in which folder, so that a run can go on where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.recovery import recover
from ultralytics.engine.pruning.files import sha256, written_whole

STAGES_FILE = "stages.yaml"
# entries of the record that are no stages
CHANGED = "changed"  # arguments that a resumed run was given anew
MODEL = "model"  # the checkpoint that the run begins with
UNREADY = "unready"  # the run's arguments are not written yet
LAST, BEST = (Path("weights", name) for name in ("last.pt", "best.pt"))  # of a training stage, in its folder


class Stages:
    """Record of a run's stages, kept in its folder in `stages.yaml`.

    Folders and files in it are relative to the run's folder, so that runs can be moved.

    Attributes:
        file (Path): The record.
    """

    def __init__(self, save_dir: Path, resume: bool, changed: dict[str, Any]):
        """Read the record of a run to resume; of another run in the same folder, begin anew.

        Args:
            save_dir (Path): Run folder of the compressor.
            resume (bool): Go on with what is there.
            changed (dict[str, Any]): Arguments that the run has been given anew, now or when it was resumed before.
        """
        self.file = save_dir / STAGES_FILE
        self._known: set[Path] = set()  # results that have been compared with their record
        self._stages: dict[str, Any] = YAML.load(self.file) if resume else {UNREADY: True}
        if changed:
            self._stages[CHANGED] = changed
        self._save()

    def ready(self, model: str | Path) -> None:
        """Note that the run's arguments are written, and which model it begins with.

        Args:
            model (str | Path): A checkpoint, or a YAML.
        """
        self._stages.pop(UNREADY)
        if Path(model).is_file():
            self._stages[MODEL] = {"sha256": sha256(model)}
        self._save()

    def forget(self) -> bool:
        """Remove the record of a run that was refused before a stage had begun, and return True: nothing to resume."""
        if self._stages.keys() - {CHANGED, MODEL, UNREADY}:
            return False
        self.file.unlink(missing_ok=True)
        return True

    def forget_unready(self) -> None:
        """Remove the record of a run that was refused before anything else was written in its folder."""
        if UNREADY in self._stages and not self.file.with_name("args.yaml").exists():
            self.file.unlink(missing_ok=True)

    def begin(self, stage: str, folder: Path) -> None:
        """Note the folder in which a stage will work, and the checkpoints in it that another run has left."""
        files = (folder / LAST, folder / BEST)
        earlier = {file.name: modified for file in files if (modified := _modified(file))}
        self._stages[stage] = {"folder": self._noted(folder), **({"earlier": earlier} if earlier else {})}
        self._save()

    def complete(self, stage: str, result: Path) -> None:
        """Note the file that a stage has made."""
        made = {"result": self._noted(result), "sha256": sha256(result)}
        self._stages[stage] = {**self._stages.get(stage, {}), **made}
        self._known.add(result)
        self._save()

    def folder(self, stage: str) -> Path | None:
        """Return the folder of a stage that has begun."""
        return self._found(self._stages.get(stage, {}).get("folder"))

    def result(self, stage: str) -> Path | None:
        """Return the file that a complete stage has made; None for a report that is gone, which can be made again.

        Raises:
            FileNotFoundError: If weights are gone, on which other stages rest.
            ValueError: If they are others by now.
        """
        noted = self._stages.get(stage, {})
        result = self._found(noted.get("result"))
        if result is None or result in self._known:
            return result
        if result.suffix != ".pt":
            return result if result.exists() else None
        check_same(result, noted.get("sha256"), f"which stage '{stage}' of '{self.file.parent}' has made")
        self._known.add(result)
        return result

    def last(self, stage: str) -> Path | None:
        """Return the newest checkpoint of a training stage, None if no epoch of it has ended; see `recover`."""
        if not (folder := self.folder(stage)):
            return None
        last, best = folder / LAST, folder / BEST
        earlier = self._stages[stage].get("earlier", {})
        if _modified(last) in {None, earlier.get(last.name)}:
            return None
        if _modified(best) == earlier.get(best.name):
            best.unlink(missing_ok=True)  # killed before this run's took its place
        return last if recover(last, best) else None

    def _noted(self, path: Path) -> str:
        """Return a path as it is in the record."""
        return Path(os.path.relpath(path, self.file.parent)).as_posix()

    def _found(self, noted: str | None) -> Path | None:
        """Return a path of the record; version 0.1.0 has noted absolute ones."""
        return Path(os.path.normpath(self.file.parent / noted)) if noted else None

    def _save(self) -> None:
        with written_whole(self.file) as temporary:
            YAML.save(temporary, self._stages)


def has_begun(run: Path) -> bool:
    """Return True for the folder of a run that can be resumed: all its arguments are written."""
    file = run / STAGES_FILE
    return file.is_file() and not any(line.startswith(UNREADY) for line in file.read_text("utf-8").splitlines())


def check_same(file: Path, digest: str | None, origin: str) -> None:
    """Check that a file, on which a run to resume rests, is there and the same as before.

    Args:
        file (Path): File.
        digest (str, optional): Its SHA-256 then; version 0.1.0 has noted none.
        origin (str): What it is to the run, for the message.

    Raises:
        FileNotFoundError: If it is gone.
        ValueError: If it has changed.
    """
    remedy = "Put it back, or begin a new run without 'resume'."
    if not file.is_file():
        raise FileNotFoundError(f"'{file}', {origin}, is gone. {remedy}")
    if digest and sha256(file) != digest:
        raise ValueError(f"'{file}', {origin}, has changed since. {remedy}")


def _modified(file: Path) -> int | None:
    """Return when a file was written last, in nanoseconds, None if it does not exist."""
    return file.stat().st_mtime_ns if file.exists() else None
