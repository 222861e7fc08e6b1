# SPDX-License-Identifier: AGPL-3.0-or-later
"""The folder of a grid: which runs it has begun, so that it can be resumed, and who works in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg.compress.compat.files import YAML, get_save_dir
from ultralytics.cfg.compress.keys import refusing
from ultralytics.engine.compress.checks.training import check_resume_value
from ultralytics.engine.compress.grid.cells import Cell
from ultralytics.engine.compress.lock import lock, unlock
from ultralytics.engine.compress.runs import find_run, folder_of, is_other, moved, saved_of
from ultralytics.engine.compress.stages import STAGES_FILE
from ultralytics.engine.pruning.files import written_whole

RUNS_FILE = "runs.yaml"  # cell to the folder of its run
TRIES_FILE = "tries.yaml"  # of a search


class Record:
    """Which runs a grid has begun, kept in its folder in `runs.yaml`.

    Attributes:
        folder (Path): Folder of the grid.
        runs (dict[str, str]): Entry of a cell to the folder of its run.
    """

    def __init__(self, folder: Path, runs: dict[str, str]):
        """Take what is known; the folder need not exist."""
        self.folder, self.runs = folder, runs

    def place(self, cell: Cell, args: dict[str, Any]) -> str:
        """Return the folder of a cell's run, which is chosen and noted when it is new.

        Args:
            cell (Cell): The cell.
            args (dict[str, Any]): Arguments of its run.
        """
        if cell.entry not in self.runs:
            folder = folder_of(args)
            if (folder / STAGES_FILE).exists():  # of another run, by 'exist_ok', which this one does not go on with
                lock(folder)
                (folder / STAGES_FILE).unlink()
                unlock(folder)
            self.runs[cell.entry] = str(folder)
            with written_whole(self.folder / RUNS_FILE) as temporary:
                YAML.save(temporary, self.runs)
        return self.runs[cell.entry]


@contextmanager
def record_opened(args: dict[str, Any], kind: str) -> Iterator[Record]:
    """Find or make the folder of a grid and keep other processes out of it.

    Args:
        args (dict): Overrides of the configuration; 'name' is the grid's.
        kind (str): What the grid is, i.e. 'sweep', which its folder's name ends with.

    Yields:
        (Record): The record of its runs.

    Raises:
        FileNotFoundError: If 'resume' is set and there is no such grid.
        ValueError: If 'save_dir' is given, or the grid to resume has begun with another model or data set.
        RuntimeError: If another process works in the folder.
    """
    with refusing():
        if args.get("save_dir"):
            raise ValueError(
                f"'save_dir={args['save_dir']}' is one folder, and a {kind} needs several. Use project and name."
            )
        check_resume_value(args.get("resume"), f"the folder of a {kind}")
        record = find_record(args, kind)
        check_begun_with(record, args)
    lock(record.folder)
    try:
        yield record
    finally:
        if not any((Path(run) / STAGES_FILE).exists() for run in record.runs.values()):  # all were refused
            for file in (RUNS_FILE, TRIES_FILE):
                (record.folder / file).unlink(missing_ok=True)
        unlock(record.folder)


def find_record(args: dict[str, Any], kind: str) -> Record:
    """Return the record of the grid to resume, or of a new one, whose folder need not exist yet.

    Args:
        args (dict): Overrides of the configuration; 'name' is the grid's. If 'resume' is its folder, 'name' and
            'project' become those that it has.
        kind (str): What the grid is.

    Raises:
        FileNotFoundError: If 'resume' is set and there is no such grid.
    """
    place = {"project": args.get("project"), "task": args["task"], "name": f"{args['name']}-{kind}", "mode": "compress"}
    if not args.get("resume"):
        again = bool(args.get("exist_ok"))
        return Record(get_save_dir(SimpleNamespace(**place, exist_ok=again, save_dir=None)), {})
    if args["resume"] is True:
        folder = find_run(place, RUNS_FILE)
    else:
        folder = Path(args["resume"]).resolve()
        name, ending, _ = folder.name.rpartition(f"-{kind}")
        if ending and (folder / RUNS_FILE).exists():
            args.update(name=name, project=str(folder.parent))
        else:
            folder = None
    if folder:
        begun = YAML.load(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else {}
        return Record(folder, {entry: str(moved_run(run, folder)) for entry, run in begun.items()})
    raise FileNotFoundError(
        f"'resume={args['resume']}' found no {kind} to resume with name={args['name']} and project="
        f"{args.get('project')}. Pass the same name and project as before, or resume=path/to/its-{kind}."
    )


def check_begun_with(record: Record, args: dict[str, Any]) -> None:
    """Check that a grid goes on with what it has begun with: its table compares runs of one model and data set.

    Its first run says so; later ones may begin with what the first has trained or converted.

    Args:
        record (Record): What it has begun.
        args (dict): Overrides of the configuration; of lists of models or data sets a cell has its own value.

    Raises:
        ValueError: If a run has another model or data set.
    """
    if not record.runs:
        return
    first = Path(next(iter(record.runs.values())))
    begun = saved_of(first)
    for key in ("model", "data"):
        if begun.get(key) and is_other(args.get(key), own := moved(begun[key], first)):
            raise ValueError(
                f"'{key}={args[key]}' is not '{own}', with which '{first}' has begun. Resume with that, or choose "
                "another name."
            )


def moved_run(run: str, folder: Path) -> Path:
    """Return where the folder of a cell's run is, which is beside the grid's, or was when that was moved.

    Args:
        run (str): Where it was, or will be.
        folder (Path): Folder of the grid.
    """
    return Path(run) if Path(run).exists() else folder.parent / Path(run).name
