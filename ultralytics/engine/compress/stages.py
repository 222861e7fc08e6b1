# SPDX-License-Identifier: AGPL-3.0-or-later
"""Stages of a compress run: which are complete and in which folder, so that a run can go on where it stopped."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg import get_save_dir
from ultralytics.engine.compress.arguments import load_prune_args, warn_of_ignored
from ultralytics.engine.pruning.files import written_whole
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, YAML, colorstr
from ultralytics.utils.torch_utils import strip_optimizer

STAGES_FILE = "stages.yaml"
CHANGED = "changed"  # entry of the record that is no stage: arguments that a resumed run was given anew
LAST = Path("weights", "last.pt")  # of a training stage, in its folder
PLACE = ("model", "data", "project", "name", "exist_ok", "save_dir", "resume", "mode", "task")  # say which run it is
RESUME_MAY_CHANGE = ("device", "workers", "cache", "batch", "plots")  # keys that a resumed run takes from its caller


class Stages:
    """Record of a run's stages, kept in its folder in `stages.yaml`.

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
        self._stages: dict[str, dict[str, Any]] = YAML.load(self.file) if resume else {}
        if changed:
            self._stages[CHANGED] = changed
        self._save()

    def forget(self) -> bool:
        """Remove the record of a run that was refused before a stage had begun, and return True: nothing to resume."""
        if self._stages.keys() - {CHANGED}:
            return False
        self.file.unlink()
        return True

    def begin(self, stage: str, folder: Path) -> None:
        """Note the folder in which a stage works, and the checkpoint in it that another run has left."""
        earlier = {"earlier": modified} if (modified := _modified(folder / LAST)) else {}
        self._stages[stage] = {"folder": str(folder), **earlier}
        self._save()

    def complete(self, stage: str, result: Path) -> None:
        """Note the file that a stage has made."""
        self._stages[stage] = {**self._stages.get(stage, {}), "result": str(result)}
        self._save()

    def folder(self, stage: str) -> Path | None:
        """Return the folder of a stage that has begun."""
        folder = self._stages.get(stage, {}).get("folder")
        return Path(folder) if folder else None

    def result(self, stage: str) -> Path | None:
        """Return the file that a complete stage has made."""
        result = self._stages.get(stage, {}).get("result")
        return Path(result) if result else None

    def last(self, stage: str) -> Path | None:
        """Return the newest checkpoint of a training stage, None if no epoch of it has ended."""
        if not (folder := self.folder(stage)):
            return None
        modified = _modified(folder / LAST)
        return None if modified in {None, self._stages[stage].get("earlier")} else folder / LAST

    def _save(self) -> None:
        with written_whole(self.file) as temporary:
            YAML.save(temporary, self._stages)


def _modified(file: Path) -> int | None:
    """Return when a file was written last, in nanoseconds, None if it does not exist."""
    return file.stat().st_mtime_ns if file.exists() else None


def training_ended(last: Path) -> bool:
    """Return True for a last.pt after which no epoch is left; strip it if Ultralytics has not come to that."""
    checkpoint = load_checkpoint(last)[1]
    if 0 <= checkpoint["epoch"] < checkpoint["train_args"]["epochs"] - 1:
        return False
    for file in (last.with_name("best.pt"), last):
        if file.exists() and load_checkpoint(file)[1]["epoch"] >= 0:  # -1 as Ultralytics leaves it
            strip_optimizer(file)
    return True


def find_run(args: dict, holds: str | Path) -> Path | None:
    """Return the newest run folder of a name, the numbered ones of repeated runs included.

    Args:
        args (dict): Arguments of the run; 'project', 'name', 'task' and 'mode' say where its folder is.
        holds (str | Path): File that the folder must hold.

    Returns:
        (Path | None): The folder, or None if there is none.
    """
    place = {k: args.get(k) and str(args[k]) for k in ("project", "name", "task", "mode")}
    first = get_save_dir(SimpleNamespace(**place, exist_ok=True, save_dir=None))
    numbered = re.compile(rf"{re.escape(first.name)}(-?\d+)?")
    runs = [d for d in first.parent.glob(f"{first.name}*") if numbered.fullmatch(d.name) and (d / holds).exists()]
    return max(runs, key=lambda d: (d / holds).stat().st_mtime, default=None)


def resumed_arguments(overrides: dict[str, Any], given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the run to resume, with what its caller may change.

    Args:
        overrides (dict[str, Any]): All arguments.
        given (dict[str, Any]): Those among them that the caller has given.

    Returns:
        args (dict[str, Any]): The resumed run's own arguments, with the caller's where `RESUME_MAY_CHANGE` says so.
        changed (dict[str, Any]): Those of the caller that are others than the run began with.

    Raises:
        FileNotFoundError: If there is no such run.
    """
    resume = overrides["resume"]
    run = find_run(overrides, STAGES_FILE) if resume is True else Path(resume)
    if run is None or not all((run / name).is_file() for name in (STAGES_FILE, "args.yaml")):
        raise FileNotFoundError(
            f"'resume={resume}' found no run to resume with name={overrides.get('name')} and "
            f"project={overrides.get('project')}. Pass the same name and project as before, or resume=path/to/run."
        )
    saved = {**YAML.load(run / "args.yaml"), **load_prune_args(run)}
    changed = YAML.load(run / STAGES_FILE).get(CHANGED, {})
    changed |= {k: given[k] for k in RESUME_MAY_CHANGE if k in given and given[k] != saved[k]}
    ignored = {k: v for k, v in given.items() if k in saved and v != saved[k] and k not in {*changed, *PLACE}}
    warn_of_ignored(ignored)
    LOGGER.info(f"{colorstr('compress:')} resuming {run} with its own arguments and {changed or 'no changes'}")
    return {**saved, **changed, "save_dir": str(run), "resume": False}, changed
