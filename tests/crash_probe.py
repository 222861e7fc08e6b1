# SPDX-License-Identifier: AGPL-3.0-or-later
"""Kills runs at their file operations, resumes them and compares them with an undisturbed one; a program of its own.

Usage: crash_probe.py WORK TASKS RESULTS

Every run is a child that is forked from this process, which has imported everything and computed nothing: threads do
not survive a fork. WORK has a name that is not ASCII, since torch.save writes to such a path through Python's `open`,
where an audit hook sees it.
"""

import json
import os
import re
import shutil
import signal
import sys
import traceback
from hashlib import sha256
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # kernels that sum in one order

import torch

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.models.yolo.detect.compress import DetectionCompressor  # noqa: F401, before the first fork

WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
OTHERS = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}  # event: argument that counts
KILLED = -signal.SIGKILL
PARTS = ("channels", "weights")  # of a cut
# a training that has ended is not validated again for these
STOCK_PICTURES = re.compile(r".*\.jpg|(.*_curve|results|confusion_matrix.*)\.png")
UNWRITTEN = "unwritten"  # an open file of which nothing has reached the disk yet


class Operations:
    """Numbers the file operations inside a folder, and kills this process at one of them."""

    def __init__(self, folder: Path, log: Path | None = None, at: int | None = None, how: str = "before"):
        """Start to listen.

        Args:
            folder (Path): Folder.
            log (Path, optional): Where to write one line per operation: kind and path inside the folder.
            at (int, optional): Number of the operation, from 0.
            how (str): Kill 'before' it, or, of a file that is opened to be written, while it is 'unwritten'.
        """
        self.folder, self.at, self.how, self.count = str(folder), at, how, 0
        self.log = log.open("a", encoding="utf-8") if log else None
        sys.addaudithook(self.listen)

    def listen(self, event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & WRITES) if mode is None else any(c in mode for c in "wax+")
            if not writes:
                return
        elif event in OTHERS:
            path = args[OTHERS[event]]
        else:
            return
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(path))
        if event == "open" and os.path.isdir(path):
            return
        done = event == "os.mkdir" and os.path.isdir(path) or event == "os.remove" and not os.path.lexists(path)
        if done or not path.startswith(self.folder) or path.endswith(".lock"):
            return
        number, self.count = self.count, self.count + 1
        if self.log:
            self.log.write(json.dumps([event, os.path.relpath(path, self.folder)]) + "\n")
            self.log.flush()
        if number == self.at:
            if self.how == UNWRITTEN:
                self.at = None
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY | (0 if mode == "a" else os.O_TRUNC)))
            os.kill(os.getpid(), signal.SIGKILL)


def forked(run, output: Path) -> int:
    """Run a function in a child process, which writes to a file, and return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            torch.set_num_threads(1)
            run()
            status = 0
        except BaseException:  # noqa: BLE001, the parent must not go on twice
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def compress(task: dict, project: Path, **more) -> None:
    """Run a pipeline."""
    keys = {k: v for k, v in task["keys"].items() if k != "model"}
    YOLO(task["keys"]["model"], task="detect").compress(project=str(project), name="run", **keys, **more)


def stages_of(project: Path) -> dict:
    """Return what a run has left: folders, files, record and weights of the cuts, epochs, what is incomplete."""
    found = {"folders": sorted(p.name for p in project.iterdir()), "cuts": {}, "epochs": {}, "files": [], "left": []}
    for file in sorted(p for p in project.rglob("*") if p.is_file() and p.suffix != ".lock" and p.name != ".lock"):
        name = str(file.relative_to(project))
        if not STOCK_PICTURES.fullmatch(file.name):
            (found["left"] if file.suffix == ".tmp" else found["files"]).append(name)
        if file.name == "prune.pt":
            model = load_checkpoint(file)[0]
            weights = {k: sha256(v.numpy().tobytes()).hexdigest() for k, v in model.state_dict().items()}
            found["cuts"][name] = {"channels": model.pruning["channels"], "weights": weights}
        if file.name in {"results.csv", "sparsity.csv"}:
            found["epochs"][name] = [line.split(",")[0].strip() for line in file.read_text().splitlines()[1:]]
        if file.suffix == ".json":
            json.loads(file.read_text())
    return found


def differences(now: dict, undisturbed: dict) -> list[str]:
    """Return which of the findings differ."""
    different = [key for key in ("folders", "epochs", "files", "left") if now[key] != undisturbed[key]]
    parts = [[{k: cut[part] for k, cut in found["cuts"].items()} for found in (now, undisturbed)] for part in PARTS]
    return [*different, *(part for part, (a, b) in zip(PARTS, parts) if a != b)]


def choose(operations: list, count: int) -> list[tuple[int, str]]:
    """Choose kills among the operations: first one of each kind, then evenly spread over all.

    Operations before the first file is there are left out: there is nothing to resume.
    """
    first = next(i for i, (event, _) in enumerate(operations) if event == "open")
    possible = []
    for i, (event, path) in enumerate(operations[first:], first):
        parts = Path(path).parts
        kind = (event, parts[0], ".".join(s for s in parts[-1].split(".") if not s.isdigit()))
        possible.append((kind, (i, "before")))
        if event == "open":
            possible.append(((*kind, UNWRITTEN), (i, UNWRITTEN)))
    kinds: dict = {}
    for kind, kill in possible:
        kinds.setdefault(kind, kill)
    chosen = sorted(kinds.values())
    if len(chosen) > count:
        chosen = [chosen[round(k * (len(chosen) - 1) / (count - 1))] for k in range(count)]
    rest = [kill for _, kill in possible if kill not in chosen]
    missing = count - len(chosen)
    chosen += [rest[k * len(rest) // missing] for k in range(missing)] if missing > 0 else []
    return sorted(set(chosen))


def probe(work: Path, task: dict) -> list[dict]:
    """Return, for each kill of a pipeline, how it was resumed and what differs then."""
    project, log = work / "runs", work / f"{task['name']}.ops"
    shutil.rmtree(project, ignore_errors=True)
    log.unlink(missing_ok=True)

    def undisturbed():
        Operations(project, log)
        compress(task, project)

    assert forked(undisturbed, work / f"{task['name']}.log") == 0, (work / f"{task['name']}.log").read_text()[-3000:]
    expected = stages_of(project)
    operations = [json.loads(line) for line in log.read_text().splitlines()]
    rows = []
    for number, how in choose(operations, task["kills"]):
        shutil.rmtree(project)
        row = {"pipeline": task["name"], "number": number, "how": how, "operation": operations[number]}

        def killed(number=number, how=how):
            Operations(project, None, number, how)
            compress(task, project)

        output = work / f"{task['name']}-{number}-{how}.log"
        row["killed"] = forked(killed, output) == KILLED
        row["resumed"] = forked(lambda: compress(task, project, resume=True), output) == 0
        if row["resumed"]:
            row["different"] = differences(stages_of(project), expected)
            output.unlink()
        else:
            row["error"] = output.read_text().strip().splitlines()[-1][-400:]
        rows.append(row)
        with (work / "rows.jsonl").open("a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
    shutil.rmtree(project)
    return rows


if __name__ == "__main__":
    work, tasks, results = map(Path, sys.argv[1:])
    rows = [row for task in json.loads(tasks.read_text()) for row in probe(work.resolve(), task)]
    results.write_text(json.dumps(rows))
