# SPDX-License-Identifier: AGPL-3.0-or-later
"""Take a bundle to a device and bring its answer back, through whatever command runs a shell there."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency.answer import Answer, parse_answer
from ultralytics.utils import LOGGER

ANSWER = "answer.json"
MARK = "--ultralytics-compress--"  # around what is read: a shell's start-up files may say more
FOLDER = '"$HOME"/.cache/ultralytics-compress'  # on the device, for its shell
ANYWAY = ("--anyway",)  # a budget judges the noise by itself: it times the dense model again


class RunnerError(OSError):
    """A command on the device that failed, or a device that did not answer."""


def run_bundle(folder: Path, runner: str, options: Sequence[str] = ANYWAY, fetched: Path | None = None) -> Answer:
    """Measure a bundle on the device that a runner reaches, or in a process of its own on this machine.

    A trip that is broken off is taken up again: the device keeps the folder of a bundle and what it has measured.

    Args:
        folder (Path): The bundle.
        runner (str): Command in front of a shell's, i.e. 'ssh pi@board' or 'adb shell'; '' for this machine.
        options (Sequence[str]): Options of measure.py.
        fetched (Path, optional): Where to keep the answer of another device.

    Returns:
        (Answer): What was measured.

    Raises:
        RunnerError: If a command fails.
    """
    if not runner:
        _output([sys.executable, str(folder / "measure.py"), *options], "measure.py")
        return parse_answer(_parsed((folder / ANSWER).read_text(encoding="utf-8"), "measure.py"), str(folder / ANSWER))
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    place = f"{FOLDER}/{bundle['id']}"
    _remote(runner, f"mkdir -p {place} && tar xf - -C {place}", _packed(folder))
    _follow(_words(runner, f"cd {place} && python3 measure.py {shlex.join(options)}"), f"runner={runner}")
    said = _remote(runner, f"echo {MARK} && cat {place}/{ANSWER} && echo && echo {MARK}")
    values = _parsed(said.split(MARK)[1], f"runner={runner}")
    if fetched:
        write_json(fetched, values)
    return parse_answer(values, f"{ANSWER} of {runner}")


def ask_device(folder: Path, runner: str) -> dict[str, Any]:
    """Return what a device says of itself and of its runtime, which it must have.

    Args:
        folder (Path): A bundle.
        runner (str): See `run_bundle`.

    Returns:
        (dict[str, Any]): An answer without times.

    Raises:
        RunnerError: If the device cannot be reached or lacks Python, NumPy or the runtime.
    """
    if not runner:
        said = _output([sys.executable, str(folder / "measure.py"), "--about"], "measure.py")
    else:
        place = f"{FOLDER}/about"
        _remote(runner, f"mkdir -p {place} && tar xf - -C {place}", _packed(folder))
        said = _remote(runner, f"cd {place} && echo {MARK} && python3 measure.py --about && echo {MARK}").split(MARK)[1]
    return _parsed(said, f"runner={runner}" if runner else "measure.py")


def _parsed(said: str, name: str) -> dict[str, Any]:
    """Return what measure.py has written.

    Raises:
        RunnerError: If it is none of its answers.
    """
    try:
        return json.loads(said)
    except ValueError as error:
        raise RunnerError(f"'{name}' has not answered as measure.py does: {said.strip()[:80]!r}") from error


def _packed(folder: Path) -> bytes:
    """Return a folder as a tar archive, without what a device has answered."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name != ANSWER:
                archive.add(file, file.name)
    return content.getvalue()


def _remote(runner: str, script: str, content: bytes = b"") -> str:
    """Run a shell script on the device and return what it writes."""
    return _output(_words(runner, script), f"runner={runner}", content)


def _words(runner: str, script: str) -> list[str]:
    """Return the command that runs a shell script on the device; ssh and adb give one word of it to a shell."""
    return [*shlex.split(runner), f"sh -c {shlex.quote(script)}"]


def _output(words: Sequence[str], name: str, content: bytes = b"") -> str:
    """Run a command and return what it writes."""
    with _started(words, name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, errors = process.communicate(content)
    _check(process.returncode, name, errors.decode(errors="replace").splitlines())
    return out.decode(errors="replace")


def _follow(words: Sequence[str], name: str) -> None:
    """Run a command and log what it says on its way."""
    said: list[str] = []
    with _started(words, name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        for line in process.stderr or ():
            said.append(line.decode(errors="replace").rstrip())
            LOGGER.info(f"{name}: {said[-1]}")
    _check(process.returncode, name, said)


def _started(words: Sequence[str], name: str, stdin: int, stdout: int) -> subprocess.Popen:
    """Start a command."""
    try:
        return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    except OSError as error:
        raise RunnerError(
            f"'{name}' cannot be started: {error.strerror}. Give a command that is installed here."
        ) from error


def _check(status: int, name: str, said: Sequence[str]) -> None:
    """Raise an error for a command that failed, with the last line that it said."""
    if status:
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        raise RunnerError(f"'{name}' failed with exit status {status}: {last}")
