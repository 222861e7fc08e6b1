# SPDX-License-Identifier: AGPL-3.0-or-later
"""A lock in a run's folder: two processes that write into one folder would mix their files."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ultralytics.cfg.compress.keys import refusing
from ultralytics.engine.pruning.files import holds_nothing, sweep_temporaries

LOCK_FILE = ".lock"
_held: dict[Path, FileLock] = {}  # by this process: a stage does not lock out the run that it belongs to


def lock(folder: Path) -> None:
    """Make a run's folder, if need be, and keep other processes out of it until `unlock` or the end of this process.

    Args:
        folder (Path): Folder; what killed processes have left half-written in it is removed.

    Raises:
        RuntimeError: If another process works in it.
        OSError: If it cannot be made or written to.
    """
    if folder in _held:
        return
    own = FileLock(folder / LOCK_FILE, thread_local=False)
    with refusing((OSError, RuntimeError)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"'{folder}' is in use by another run. Wait until it has ended, or pass another 'name'."
            ) from None
        except OSError as error:
            raise OSError(f"'{folder}' cannot be written to: {error}. Pass another 'project'.") from error
    _held[folder] = own
    sweep_temporaries(folder)


def unlock(folder: Path, refused: bool = False) -> None:
    """Let others work in a folder again; one in which a run has written nothing is removed.

    Args:
        folder (Path): Folder.
        refused (bool): The run was refused: nothing of it stays in a folder that holds other files.
    """
    own = _held.pop(folder, None)
    if own is None:
        return
    own.release()
    if folder.is_dir() and (refused or holds_nothing(folder)):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
