# SPDX-License-Identifier: AGPL-3.0-or-later
"""A grid of 8 runs on a Ray cluster of two nodes, a node and then the driver killed, against the same grid in turn.

    python benchmarks/ray_grid.py --out runs/ray_grid
    python benchmarks/ray_grid.py --out runs/ray_grid_s3 --storage 's3://bucket/sweeps?...'

Both nodes are on this machine, with one CPU each. The driver is a process of its own, which is killed and begun again
with resume=True; a callback notes every epoch that is trained anywhere. Written are results.json and results.md: which
rows of the two tables are equal, how many epochs were trained, what Ray costs a run, and what the measured stage times
make of 8 and 64 GPUs. With --storage the nodes share no folder: every trial works in a temporary one, and the object
store has what goes on. Needs the extra 'ray'.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.pruning.files import write_json

SETTINGS = {"batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 0.002, "mosaic": 0.0}
SETTINGS |= {"workers": 0, "plots": False, "device": "cpu"}
STORE = 80 * 2**20  # bytes of each node's object store; Ray takes no fewer
NODES = 2
PATIENCE = 3600  # seconds for each wait


def main() -> None:
    """Run both grids, or, as the driver, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--fraction", type=float, default=0.5, help="share of the training pictures for a fine-tuning")
    parser.add_argument("--imgsz", type=int, default=64)
    parser.add_argument("--dense-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2, help="epochs of every fine-tuning")
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[1.25, 1.5, 2.0, 3.0])
    parser.add_argument("--methods", nargs="+", default=["lamp", "l1"])
    parser.add_argument("--kill-node", type=int, default=2, help="when so many runs are complete")
    parser.add_argument("--kill-driver", type=int, default=4, help="when so many runs are complete")
    parser.add_argument("--port", type=int, default=6399, help="of the cluster's first node")
    parser.add_argument("--storage", help="URI of an object store, which then carries the runs' folders")
    parser.add_argument("--drive", choices=("turn", "ray"), help="run this grid alone, in this process")
    parser.add_argument("--resume", action="store_true", help="go on with it")
    args = parser.parse_args()
    args.out = args.out.resolve()
    if args.drive:
        drive(args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    # recent releases of Ray let nobody join without a token: this cluster has one of its own
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    dense_model(args)
    if not finished(args, "turn"):
        end(driver(args, "turn"), args.out / "turn.log")
    if not finished(args, "ray"):
        write_json(args.out / "interrupted.json", on_cluster(args))
    interrupted = json.loads((args.out / "interrupted.json").read_text(encoding="utf-8"))
    results = {"about": machine(), "epochs": args.epochs, **interrupted, **compare(args.out)}
    write_json(args.out / "results.json", results)
    text = describe(results)
    (args.out / "results.md").write_text(text, encoding="utf-8")
    print(text)


def finished(args: argparse.Namespace, where: str) -> bool:
    """Return True if a grid has its table."""
    return (args.out / where / "mine-sweep" / "sweep.json").exists()


def dense_model(args: argparse.Namespace) -> Path:
    """Return a dense model that detects something, trained once."""
    best = args.out / "dense" / "weights" / "best.pt"
    if not best.exists():
        keys = {**SETTINGS, "data": args.data, "imgsz": args.imgsz, "epochs": args.dense_epochs}
        YOLO("yolov8n.yaml").train(**keys, project=str(args.out), name="dense", exist_ok=True)
    return best


def note_epoch(runs: Path, trainer: Any) -> None:
    """Note an epoch that was trained, in a line of its own: a callback, which travels to Ray's workers."""
    with open(runs / "epochs.log", "a", encoding="utf-8") as log:
        log.write(f"{trainer.save_dir.name} {trainer.epoch + 1}\n")


def drive(args: argparse.Namespace) -> None:
    """Run the grid: in turn, or on the cluster that RAY_ADDRESS names."""
    model = YOLO(dense_model(args))
    runs = args.out / args.drive
    runs.mkdir(exist_ok=True)
    model.add_callback("on_train_epoch_end", partial(note_epoch, runs))
    grid = {"speed_up": args.speed_ups, "prune_method": args.methods}
    keys = {key: vars(args)[key] for key in ("data", "imgsz", "fraction", "epochs", "resume")}
    place = {"project": str(runs), "name": "mine"}
    on_ray = {"use_ray": True, "storage_path": args.storage} if args.drive == "ray" else {}
    model.compress(**SETTINGS, **keys, **grid, **place, **on_ray)


def driver(args: argparse.Namespace, where: str, resume: bool = False) -> subprocess.Popen:
    """Begin a driver, with its output beside the runs."""
    command = [sys.executable, __file__, "--drive", where]
    for name, value in vars(args).items():
        if name not in {"drive", "resume"} and value is not None:
            command += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    command += ["--resume"] if resume else []
    environment = {**os.environ, **({"RAY_ADDRESS": f"127.0.0.1:{args.port}"} if where == "ray" else {})}
    with open(args.out / f"{where}.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def end(process: subprocess.Popen, log: Path) -> None:
    """Wait for a driver's end."""
    if process.wait(PATIENCE):
        raise RuntimeError(f"the driver has failed, see {log}")


class Node:
    """A node of the cluster: one raylet with one CPU, on this machine."""

    def __init__(self, out: Path, *place: str):
        """Begin it, and wait until its raylet runs."""
        command = [str(Path(sys.executable).with_name("ray")), "start", *place, "--num-cpus", "1", "--block"]
        command += ["--object-store-memory", str(STORE), "--disable-usage-stats"]
        with open(out / "nodes.log", "a", encoding="utf-8") as log:
            self.process = psutil.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.raylet() is not None, 120, "a raylet")

    def raylet(self) -> psutil.Process | None:
        """Return its raylet."""
        return next((one for one in self.process.children(recursive=True) if one.name() == "raylet"), None)

    def kill(self) -> None:
        """Kill the raylet, as a power cut would; the process that has started it ends with it."""
        if raylet := self.raylet():
            raylet.kill()
        self.process.wait(60)

    def stop(self) -> None:
        """End it and all that it has started."""
        if not self.process.is_running():
            return
        for one in [*self.process.children(recursive=True), self.process]:
            if one.is_running():
                one.terminate()
        self.process.wait(60)


def on_cluster(args: argparse.Namespace) -> dict[str, Any]:
    """Run the grid on two nodes; kill one, then the driver; begin both again."""
    runs, start = args.out / "ray", time.perf_counter()
    events: list[dict[str, Any]] = []

    def note(event: str) -> dict[str, list[int]]:
        complete = {file.parents[1].name: stamp(file) for file in weights_of(runs)}
        events.append({"seconds": time.perf_counter() - start, "event": event, "complete": sorted(complete)})
        return complete

    temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of its sockets must be short
    place = ["--head", "--port", str(args.port), "--temp-dir", temporary, "--include-dashboard", "false"]
    with ExitStack() as nodes:
        nodes.callback(shutil.rmtree, temporary, ignore_errors=True)
        nodes.callback(Node(args.out, *place).stop)
        second = Node(args.out, "--address", f"127.0.0.1:{args.port}")
        nodes.callback(second.stop)
        process = driver(args, "ray")
        wait_for(lambda: len(weights_of(runs)) >= args.kill_node, PATIENCE, "runs", process)
        second.kill()
        before = note("a node was killed")
        wait_for(lambda: len(weights_of(runs)) >= args.kill_driver, PATIENCE, "runs", process)
        process.kill()
        process.wait()
        before |= note("the driver was killed")
        nodes.callback(Node(args.out, "--address", f"127.0.0.1:{args.port}").stop)
        end(driver(args, "ray", resume=True), args.out / "ray.log")
        after = note("both were begun again, and the grid is complete")
    return {"events": events, "complete runs written again": [k for k, found in before.items() if after[k] != found]}


def weights_of(runs: Path) -> list[Path]:
    """Return the weights of the fine-tunings that are complete: their reports are written last."""
    return [best for best in runs.glob("*-finetune/weights/best.pt") if (best.parents[1] / "report.json").exists()]


def stamp(file: Path) -> list[int]:
    """Return what changes when a file is written again."""
    found = file.stat()
    return [found.st_mtime_ns, found.st_ino]


def wait_for(holds: Callable[[], bool], seconds: float, what: str, process: subprocess.Popen | None = None) -> None:
    """Wait until something holds, while a process runs."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end or (process and process.poll() is not None):
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.5)


def compare(out: Path) -> dict[str, Any]:
    """Return which rows of the tables are equal, how many epochs were trained, and times."""
    tables = {
        where: json.loads((out / where / "mine-sweep/sweep.json").read_text("utf-8")) for where in ("turn", "ray")
    }
    rows = {where: {row["model"]: figures(row) for row in table["rows"]} for where, table in tables.items()}
    epochs = {where: epochs_of(out / where) for where in tables}
    return {
        "metric": tables["turn"]["metric"],
        "rows": rows,
        "equal": {name: rows["ray"][name] == row for name, row in rows["turn"].items()},
        "trained": {where: sum(counts.values()) for where, counts in epochs.items()},
        "epochs trained twice": {run: count for run, count in epochs["ray"].items() if count > 1},
        "stages": stage_seconds(out / "turn"),
        "between": seconds_between(out / "ray"),
    }


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what is measured on a clock or says where files are."""
    return {key: value for key, value in row.items() if "latency" not in key and key != "weights"}


def epochs_of(runs: Path) -> Counter[str]:
    """Return how often each epoch of each fine-tuning was trained."""
    return Counter((runs / "epochs.log").read_text(encoding="utf-8").splitlines())


def stage_seconds(runs: Path) -> dict[str, float]:
    """Return the median seconds of the stages of a run, by when their files were written."""
    cells = YAML.load(runs / "mine-sweep" / "runs.yaml")
    cut, tuned, reports = [], [], []
    for folder in map(Path, cells.values()):
        tuning = folder.with_name(folder.name.replace("-prune", "-finetune"))
        cut.append(seconds_of(folder / "compress.yaml", folder / "report.json"))
        tuned.append(seconds_of(tuning / "compress.yaml", tuning / "report.json"))
        reports.append(tuning / "report.json")
    first, *others = cut
    last = max(reports, key=lambda report: report.stat().st_mtime)
    table = seconds_of(last, runs / "mine-sweep" / "sweep.json") / (len(cells) + 1)
    return {"first cut": first, "cut": median(others), "fine-tuning": median(tuned), "table, per model": table}


def seconds_of(first: Path, last: Path) -> float:
    """Return the seconds between the writing of two files."""
    return last.stat().st_mtime - first.stat().st_mtime


def seconds_between(runs: Path) -> list[float]:
    """Return the seconds between a run's end and the beginning of the next one on the node that it leaves.

    Ray Tune's times of the runs that ended after the last driver began, with both nodes: whichever run ends first makes
    room for the next one, and the first ones find it.
    """
    experiment = next(runs.glob("mine-sweep/ray/*"), None)
    if experiment is None:  # it is in an object store
        return []
    state = max(experiment.glob("experiment_state-*.json")).stem.removeprefix("experiment_state-")
    begun = datetime.strptime(state, "%Y-%m-%d_%H-%M-%S").timestamp()
    times = []
    for file in experiment.glob("*/result.json"):
        results = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        times.append((results[0]["timestamp"] - results[0]["time_total_s"], results[-1]["timestamp"]))
    later = [(start, end) for start, end in times if end > begun]
    starts, ends = sorted(start for start, _ in later), sorted(end for _, end in later)
    return [start - end for start, end in zip(starts[NODES:], ends)]


def speed_up(cells: int, gpus: int, once: float, each: float, begin: float) -> float:
    """Return how much faster than in turn a grid is on several GPUs: what is done once, and cells in rounds."""
    return (once + cells * each) / (once + math.ceil(cells / gpus) * (begin + each))


def describe(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    metric, rows, stages = results["metric"], results["rows"], results["stages"]
    equal = markdown(
        ["model", f"{metric} in turn", f"{metric} on Ray", "GFLOPs", "row equal"],
        [
            [
                name,
                f"{row[metric]:.6f}",
                f"{rows['ray'][name][metric]:.6f}",
                f"{row['gflops']:.4f}",
                str(results["equal"][name]),
            ]
            for name, row in rows["turn"].items()
        ],
    )
    events = markdown(
        ["after", "event", "complete runs"],
        [[f"{e['seconds']:.0f} s", e["event"], str(len(e["complete"]))] for e in results["events"]],
    )
    between = results["between"]
    begin = median(between) if between else 0.0  # too few runs to tell
    shares = []
    for epochs in (results["epochs"], 100):
        each = stages["cut"] + stages["fine-tuning"] * epochs / results["epochs"]
        for cells in (8, 64):
            once = stages["first cut"] + stages["table, per model"] * (cells + 1)
            computed = [f"{speed_up(cells, gpus, once, each, begin):.1f}" for gpus in (8, 64)]
            shares.append([str(epochs), str(cells), f"{once / (once + cells * each):.1%}", *computed])
    serial = markdown(["epochs", "runs", "done once", "8 GPUs", "64 GPUs"], shares)
    times = markdown(["stage", "seconds"], [[name, f"{seconds:.1f}"] for name, seconds in stages.items()])
    twice = results["epochs trained twice"]
    return "\n\n".join(
        [
            equal,
            events,
            f"Epochs trained: {results['trained']['turn']} in turn, {results['trained']['ray']} on Ray; trained twice: "
            f"{', '.join(twice) or 'none'}. Complete runs written again: "
            f"{', '.join(results['complete runs written again']) or 'none'}.",
            times,
            f"Between the end of a run and the beginning of the next one on its node: {begin:.1f} s (median of "
            f"{len(between)}), a new process and its imports.",
            serial,
        ]
    )


if __name__ == "__main__":
    main()
