# SPDX-License-Identifier: AGPL-3.0-or-later
"""A grid of 8 runs on a Ray cluster of two nodes, a node and then the driver killed, against the same grid in turn.

    python benchmarks/ray_grid.py --out runs/ray_grid

Both nodes are on this machine, with one CPU each. The driver is a process of its own, which is killed and begun again
with resume=True; a callback notes every epoch that is trained anywhere. Written are results.json and results.md: which
rows of the two tables are equal, how many epochs were trained, what Ray costs a run, and what the measured stage times
make of 8 and 64 GPUs. Needs the extra 'ray'.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML

SPEED_UPS = [1.25, 1.5, 2.0, 3.0]
METHODS = ["lamp", "l1"]
EPOCHS = 2
DENSE_EPOCHS = 20
SETTINGS = {"imgsz": 64, "batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 0.002, "mosaic": 0.0, "fraction": 0.5}
SETTINGS |= {"data": "shapes.yaml", "workers": 0, "plots": False, "device": "cpu"}
STORE = 80 * 2**20  # bytes of each node's object store; Ray takes no fewer
KILL_NODE, KILL_DRIVER = 2, 4  # runs that are complete by then
PATIENCE = 3600  # seconds for each wait


def main() -> None:
    """Run both grids, or, as the driver, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--drive", choices=("turn", "ray"), help="run this grid alone, in this process")
    parser.add_argument("--resume", action="store_true", help="go on with it")
    args = parser.parse_args()
    out = args.out.resolve()
    if args.drive:
        drive(out, args.drive, args.resume)
        return
    out.mkdir(parents=True, exist_ok=True)
    dense_model(out)
    seconds = {}
    if not (out / "turn" / "mine-sweep" / "sweep.json").exists():
        start = time.perf_counter()
        driver(out, "turn").wait()
        seconds["in turn"] = time.perf_counter() - start
    interrupted = on_cluster(out)
    results = {"about": machine(), "settings": SETTINGS, "epochs": EPOCHS, "seconds": seconds, **interrupted}
    results |= compare(out)
    (out / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    text = describe(results)
    (out / "results.md").write_text(text, encoding="utf-8")
    print(text)


def dense_model(out: Path) -> Path:
    """Return a dense model that detects something, trained once."""
    best = out / "dense" / "weights" / "best.pt"
    if not best.exists():
        keys = {**SETTINGS, "fraction": 1.0, "epochs": DENSE_EPOCHS, "project": str(out), "name": "dense"}
        YOLO("yolov8n.yaml").train(**keys, exist_ok=True)
    return best


def note_epoch(trainer: Any) -> None:
    """Note an epoch that was trained, in a line of its own: a callback, which travels to Ray's workers."""
    with open(trainer.save_dir.parent / "epochs.log", "a", encoding="utf-8") as log:
        log.write(f"{trainer.save_dir.name} {trainer.epoch + 1}\n")


def drive(out: Path, where: str, resume: bool) -> None:
    """Run the grid: in turn, or on the cluster that RAY_ADDRESS names."""
    model = YOLO(dense_model(out))
    model.add_callback("on_fit_epoch_end", note_epoch)
    grid = {"speed_up": SPEED_UPS, "prune_method": METHODS, "epochs": EPOCHS}
    place = {"project": str(out / where), "name": "mine", "resume": resume}
    model.compress(**SETTINGS, **grid, **place, use_ray=where == "ray")


def driver(out: Path, where: str, resume: bool = False, address: str = "") -> subprocess.Popen:
    """Begin a driver, with its output beside the runs."""
    command = [sys.executable, __file__, "--out", str(out), "--drive", where, *(["--resume"] if resume else [])]
    with open(out / f"{where}.log", "a", encoding="utf-8") as log:
        environment = {**os.environ, **({"RAY_ADDRESS": address} if address else {})}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


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
        """Kill the raylet as a power cut would, and what has started it."""
        if raylet := self.raylet():
            raylet.kill()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it and all that it has started."""
        for one in [*self.process.children(recursive=True), self.process]:
            if one.is_running():
                one.terminate()
        self.process.wait(60)


def on_cluster(out: Path) -> dict[str, Any]:
    """Run the grid on two nodes; kill one, then the driver; begin both again."""
    runs, port = out / "ray", 16399
    if (runs / "mine-sweep" / "sweep.json").exists():
        return json.loads((out / "interrupted.json").read_text(encoding="utf-8"))
    address, start, events = f"127.0.0.1:{port}", time.perf_counter(), []

    def note(event: str) -> dict[str, list[int]]:
        complete = {file.parents[1].name: stamp(file) for file in runs.glob("*-finetune/weights/best.pt") if done(file)}
        events.append({"seconds": time.perf_counter() - start, "event": event, "complete": sorted(complete)})
        return complete

    temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of its sockets must be short
    head = Node(out, "--head", "--port", str(port), "--temp-dir", temporary, "--include-dashboard", "false")
    second = Node(out, "--address", address)
    process = driver(out, "ray", address=address)
    wait_for(lambda: complete_runs(runs) >= KILL_NODE, PATIENCE, "runs", process)
    second.kill()
    before = note("a node was killed")
    wait_for(lambda: complete_runs(runs) >= KILL_DRIVER, PATIENCE, "runs", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before |= note("the driver was killed")
    second = Node(out, "--address", address)
    process = driver(out, "ray", resume=True, address=address)
    if process.wait(PATIENCE):
        raise RuntimeError(f"the driver has failed, see {out / 'ray.log'}")
    after = note("complete")
    second.stop()
    head.stop()
    again = [name for name, found in before.items() if after[name] != found]
    result = {"events": events, "complete runs written again": again}
    (out / "interrupted.json").write_text(json.dumps(result), encoding="utf-8")
    return result


def done(best: Path) -> bool:
    """Return True for the weights of a fine-tuning that is complete: its report is written last."""
    return (best.parents[1] / "report.json").exists()


def complete_runs(runs: Path) -> int:
    """Return how many runs are complete."""
    return sum(done(best) for best in runs.glob("*-finetune/weights/best.pt"))


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
        "epochs": {where: sum(counts.values()) for where, counts in epochs.items()},
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
    cut, tuned = [], []
    for folder in map(Path, cells.values()):
        tuning = folder.with_name(folder.name.replace("-prune", "-finetune"))
        cut.append(seconds_of(folder / "compress.yaml", folder / "report.json"))
        tuned.append(seconds_of(tuning / "compress.yaml", tuning / "report.json"))
    first, *others = cut
    return {"first cut": first, "cut": median(others), "fine-tuning": median(tuned)}


def seconds_of(first: Path, last: Path) -> float:
    """Return the seconds between the writing of two files."""
    return last.stat().st_mtime - first.stat().st_mtime


def seconds_between(runs: Path) -> list[float]:
    """Return the seconds between a run's end and the next one's beginning on the same worker node, in Ray's results."""
    ended: dict[str, list[tuple[float, float]]] = {}
    for file in runs.glob("mine-sweep/ray/*/*/result.json"):
        last = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
        times = (last["timestamp"] - last["time_total_s"], last["timestamp"])
        ended.setdefault(str(last["node_ip"]), []).append(times)
    gaps = []
    for times in ended.values():
        times.sort()
        gaps += [later[0] - earlier[1] for earlier, later in zip(times, times[1:]) if later[0] > earlier[1]]
    return sorted(gaps)


def speed_up(cells: int, gpus: int, shared: float, each: float) -> float:
    """Return how much faster a grid is on several GPUs: what is shared comes first, then cells in rounds."""
    return (shared + cells * each) / (shared + math.ceil(cells / gpus) * each)


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
    shares = []
    for epochs in (EPOCHS, 100):
        each = stages["cut"] + stages["fine-tuning"] * epochs / EPOCHS + (median(between) if between else 0.0)
        for cells in (8, 64):
            total = stages["first cut"] + cells * each
            computed = [f"{speed_up(cells, gpus, stages['first cut'], each):.1f}" for gpus in (8, 64)]
            shares.append([str(epochs), str(cells), f"{stages['first cut'] / total:.2%}", *computed])
    serial = markdown(["epochs", "runs", "done once", "8 GPUs", "64 GPUs"], shares)
    times = markdown(["stage", "seconds"], [[name, f"{seconds:.1f}"] for name, seconds in stages.items()])
    twice = results["epochs trained twice"]
    return "\n\n".join(
        [
            equal,
            events,
            f"Epochs trained: {results['epochs']['turn']} in turn, {results['epochs']['ray']} on Ray; trained twice: "
            f"{', '.join(twice) or 'none'}. Complete runs written again: "
            f"{', '.join(results['complete runs written again']) or 'none'}.",
            times,
            f"Between two runs on a node: {median(between):.1f} s (median of {len(between)})." if between else "",
            serial,
        ]
    )


if __name__ == "__main__":
    main()
