# SPDX-License-Identifier: AGPL-3.0-or-later
"""Folders of runs: by which name they are found, and what a resumed run takes from its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg.compress.compat.files import NUMBER_MARK, YAML, get_save_dir
from ultralytics.cfg.compress.keys import CHOICES
from ultralytics.engine.compress.arguments import load_prune_args, warn_of_ignored
from ultralytics.engine.compress.stages import CHANGED, MODEL, STAGES_FILE, check_same, has_begun
from ultralytics.engine.pruning.files import holds_nothing, sha256
from ultralytics.utils import LOGGER, colorstr

PLACE = ("model", "data", "project", "name", "exist_ok", "save_dir", "resume", "mode", "task")  # say which run it is
FILES = ("model", "data", "sl_model", "sl_hyp", "distill_model", "pretrained", "budget")  # keys that may name a file
RESUME_MAY_CHANGE = ("device", "workers", "cache", "batch", "plots")  # keys that a resumed run takes from its caller


def folder_of(args: Mapping[str, Any]) -> Path:
    """Return the folder that Ultralytics will make for a run, by its own rule.

    Args:
        args (Mapping[str, Any]): Arguments of the run.
    """
    keys = ("project", "name", "task", "mode", "exist_ok", "save_dir")
    return get_save_dir(SimpleNamespace(**{key: args.get(key) for key in keys}))


def find_run(args: dict, holds: str | Path) -> Path | None:
    """Return the newest run folder of a name, the numbered ones of repeated runs included.

    Args:
        args (dict): Arguments of the run; 'project', 'name', 'task' and 'mode' say where its folder is.
        holds (str | Path): File that the folder must hold, unless it holds nothing: its run was killed before.

    Returns:
        (Path | None): The folder, or None if there is none.
    """
    place = {k: None if args.get(k) is None else str(args[k]) for k in ("project", "name", "task", "mode")}
    first = get_save_dir(SimpleNamespace(**place, exist_ok=True, save_dir=None))
    numbered = re.compile(
        rf"{re.escape(first.name)}({re.escape(NUMBER_MARK)}\d+)?"
    )  # as Ultralytics' `increment_path` does it
    folders = first.parent.iterdir() if first.parent.is_dir() else ()
    named = [folder for folder in folders if numbered.fullmatch(folder.name) and folder.is_dir()]
    runs = {folder: folder / holds for folder in named if (folder / holds).exists()}
    runs |= {folder: folder for folder in named if holds_nothing(folder)}
    return max(runs, key=lambda folder: runs[folder].stat().st_mtime_ns, default=None)


def run_to_resume(overrides: dict[str, Any]) -> Path:
    """Return the folder of the run that 'resume' means, which may have been killed before its arguments were written.

    Args:
        overrides (dict[str, Any]): All arguments.

    Raises:
        FileNotFoundError: If there is no such run.
    """
    resume = overrides["resume"]
    run = find_run(overrides, STAGES_FILE) if resume is True else Path(resume).resolve()
    known = run is not None and (run / STAGES_FILE).is_file() and (not has_begun(run) or (run / "args.yaml").is_file())
    if run is None or not (known or (resume is True and holds_nothing(run))):
        raise FileNotFoundError(
            f"'resume={resume}' found no run to resume with name={overrides.get('name')} and "
            f"project={overrides.get('project')}. Pass the same name and project as before, or resume=path/to/run."
        )
    return run


def resumed_arguments(run: Path, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a run to resume, with what its caller may change.

    Args:
        run (Path): Its folder.
        given (dict[str, Any]): Arguments that the caller has given.

    Returns:
        args (dict[str, Any]): The resumed run's own arguments, with the caller's where `RESUME_MAY_CHANGE` says so.
        changed (dict[str, Any]): Those of the caller that are others than the run began with.

    Raises:
        FileNotFoundError: If the model that the run began with is gone.
        ValueError: If it is another one by now.
    """
    saved = {**YAML.load(run / "args.yaml"), **load_prune_args(run)}
    saved |= {key: moved_along(saved[key], saved.get("save_dir"), run) for key in FILES if key in saved}
    saved |= {key: str(moved(saved[key], run)) for key in ("model", "sl_model") if saved.get(key)}
    record = YAML.load(run / STAGES_FILE)
    if begun_with := record.get(MODEL):
        check_same(Path(saved["model"]), begun_with["sha256"], f"with which '{run}' has begun")
    changed = record.get(CHANGED, {})
    changed |= {k: given[k] for k in RESUME_MAY_CHANGE if k in given and given[k] != saved[k]}
    ignored = {k: v for k, v in given.items() if k in saved and v != saved[k] and k not in {*changed, *PLACE}}
    ignored |= {k: given[k] for k in ("model", "data") if is_other(given.get(k), saved.get(k))}
    warn_of_ignored(ignored)
    LOGGER.info(f"{colorstr('compress:')} resuming {run} with its own arguments and {changed or 'no changes'}")
    return {**saved, **changed, "save_dir": str(run), "resume": False}, changed


def model_of(resume: str) -> str | None:
    """Return the model with which a run has begun, None if it is not there or has written no arguments.

    Args:
        resume (str): Its folder.
    """
    run = Path(resume).resolve()
    if not resume or not (run / "args.yaml").is_file() or not has_begun(run):
        return None
    begun = YAML.load(run / "args.yaml")
    return str(moved(begun["model"], run))


def is_other(given: Any, own: Any) -> bool:
    """Return True for two files of different content; what is no file is found elsewhere, by rules of its own."""
    files = [Path(file) for file in (given, own) if isinstance(file, (str, Path)) and Path(file).is_file()]
    return len(files) == 2 and not files[0].samefile(files[1]) and sha256(files[0]) != sha256(files[1])


def located(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in which files and folders that exist are paths that hold in any working directory."""
    named = {key for key in FILES if args.get(key) not in CHOICES.get(key, ())}  # budget=onnx, beside a folder onnx
    return {key: absolute(value) if key in named else value for key, value in args.items()}


def absolute(value: Any) -> Any:
    """Return the path of a file or folder that exists as one that holds in any working directory, else the value."""
    exists = isinstance(value, (str, Path)) and str(value) and Path(value).exists()
    return str(Path(value).resolve()) if exists else value


def moved_along(value: Any, begun: str | None, run: Path) -> Any:
    """Return where a file is that was moved together with a run, and lies to its folder as before, else the value.

    Args:
        value (Any): Its path, if it is one.
        begun (str, optional): Where the run's folder was.
        run (Path): Where it is.
    """
    if not begun or not isinstance(value, str) or Path(value).exists() or not Path(value).is_absolute():
        return value
    if Path(value).anchor != Path(begun).anchor:  # another drive, or an old Ultralytics's relative folder
        return value
    there = (run / os.path.relpath(value, begun)).resolve()
    return str(there) if there.exists() else value


def moved_teacher(teacher: str, run: Path) -> str:
    """Return where the teacher of a training is that was moved.

    Args:
        teacher (str): Where it was, by the training's checkpoint.
        run (Path): Folder of the training. Its args.yaml knows where it has gone on since that checkpoint.
    """
    return str(moved(saved_of(run).get("distill_model") or teacher, run))


def moved(file: str | Path, run: Path) -> Path:
    """Return where a file is that a run names, and which may have been moved together with the run.

    Args:
        file (str | Path): Where it was.
        run (Path): Folder of the run: a file that is gone is looked for beside it, where it lies to it as before, and
            where the run, which may have been resumed since, has found its model.

    Returns:
        (Path): Where it is; where it was if it is in none of these places.
    """
    file = Path(file)
    if file.exists():
        return file
    inner = len(file.parts) - (3 if file.parent.name == "weights" else 2)
    saved = saved_of(run)
    along, model = (moved_along(str(own), saved.get("save_dir"), run) for own in (file, saved.get("model") or file))
    places = [run.parent.joinpath(*file.parts[max(inner, 0) :]), Path(along), Path(model)]
    return next((place for place in places if place.name == file.name and place.exists()), file)


def saved_of(run: Path) -> dict[str, Any]:
    """Return the arguments of training that a run has written, none of one that has not."""
    return YAML.load(run / "args.yaml") if (run / "args.yaml").is_file() else {}
