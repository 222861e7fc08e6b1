# SPDX-License-Identifier: AGPL-3.0-or-later
"""Measure the networks and convolutions of this folder on this device, and write answer.json.

    python3 measure.py

It needs Python 3.8, NumPy and the one runtime that bundle.json names. Stop it at any time: started again, it goes on
where it was. Bring answer.json back: yolo compress model=... budget=answer.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from collections import namedtuple
from datetime import datetime
from pathlib import Path

import numpy as np
from device import describe_device
from runs import CLOCKS, Runs, switches, undisturbed_runs

SCHEMA = 1  # of answer.json
WARMUP, ROUNDS = 3, 20  # rounds of networks that do not count, and that do
ATTEMPTS = 4  # to measure what was disturbed
DRIFT = 0.1  # share by which the first network may take longer than at its fastest before others' times are doubted
TELL = 5.0  # seconds between two lines of progress
CONDITIONS = ("bundle", "runtime", "version", "precision", "threads", "power", "clock", "device")


def main():
    """Measure what is not measured yet, and write it after every step."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="threads of the runtime; by default those of the bundle")
    parser.add_argument("--precision", default="", help="fp32, fp16 or int8, as far as the folder has it")
    parser.add_argument("--power", default="", help="power mode to record; by default the governor of the CPU's clock")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for one thread beside other work"
    )
    parser.add_argument("--noise", type=float, default=0.25, help="largest share by which repeated runs may differ")
    parser.add_argument("--anyway", action="store_true", help="write what is noise as well, and note it")
    parser.add_argument("--about", action="store_true", help="describe device and runtime, and measure nothing")
    args = parser.parse_args()
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    runtime = importlib.import_module(f"runtime_{bundle['runtime']}")
    precision = args.precision or bundle["precision"]
    if precision not in bundle["precisions"]:
        raise SystemExit(
            f"'--precision {precision}' is invalid. This folder has {', '.join(bundle['precisions'])} for "
            f"{bundle['runtime']}. Write another one where the model is: yolo latency runtime=... precision=..."
        )
    device = describe_device()
    answer = {
        "schema": SCHEMA,
        "complete": False,
        "bundle": bundle["id"],
        "model": bundle["model"],
        "runtime": bundle["runtime"],
        "version": runtime.version(),
        "precision": precision,
        "threads": args.threads or bundle["threads"] or os.cpu_count(),
        "power": args.power or device["governor"],
        "clock": args.clock,
        "batch": 1,
        "imgsz": bundle["imgsz"],
        "device": device,
        "python": platform.python_version(),
        "predicted": bundle["predicted"],
        "widths": bundle["widths"],
        "networks": {},
        "convolutions": dict(bundle["measured"]),
    }
    check_conditions(bundle, answer)
    if args.about:
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    Measurement(folder, bundle, runtime, answer, args.noise, args.anyway).run()


def check_conditions(bundle, answer):
    """Refuse other conditions than those under which this device, or another one, has measured the convolutions."""
    noted = {**answer, "device": answer["device"].get("name")}
    for key, before in bundle.get("measured_as", {}).items():
        if before != noted[key]:
            raise SystemExit(
                f"The convolutions of this folder were measured with {key} {before}, and now it is {noted[key]}: their "
                "times do not go together. Make a first folder where the model is: yolo latency"
            )


class Measurement:
    """What is measured in a folder, step by step, each of which is written before the next."""

    def __init__(self, folder, bundle, runtime, answer, noise, anyway):
        """Go on with what an earlier process has measured under the same conditions."""
        self.bundle, self.runtime, self.answer, self.noise, self.anyway = bundle, runtime, answer, noise, anyway
        self.clock = CLOCKS[answer["clock"]]
        self.folder, self.file = folder, folder / "answer.json"
        self.begin = time.monotonic()
        earlier = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        same = {key: earlier.get(key) for key in CONDITIONS} == {key: answer[key] for key in CONDITIONS}
        if same:
            answer["convolutions"].update(earlier["convolutions"])
        elif earlier:
            say("The answer.json that is here was measured under other conditions: all is measured anew.")
        shape = namedtuple("Shape", bundle["fields"])
        self.groups = [[(key, shape(*values)) for key, values in group] for group in bundle["convolutions"]]
        self.first = next((self.open(file) for file in bundle["networks"].values()), None)

    def open(self, file):
        """Return a function that runs a network of the bundle once."""
        return self.runtime.open_network(self.folder / file, self.answer["threads"], self.answer["precision"])

    def run(self):
        """Measure everything that is missing, the networks last: they must be of the same quarter of an hour."""
        self.fastest = min(timed(self.first, self.clock) for _ in range(WARMUP + ROUNDS)) if self.first else 0.0
        done, said = self.answer["convolutions"], 0.0
        for number, group in enumerate(self.groups, 1):
            missing = [(key, shape) for key, shape in group if key not in done]
            for start in range(0, len(missing), self.runtime.AT_ONCE):
                self.measure_group(missing[start : start + self.runtime.AT_ONCE])
            if missing:
                self.write()
            if missing and (time.monotonic() > said + TELL or number == len(self.groups)):
                said = time.monotonic()
                say(f"{number}/{len(self.groups)} convolutions, each at all its widths")
        self.measure_networks()
        self.answer.update(
            complete=True,
            date=datetime.now().astimezone().isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.begin, 1),
            memory_mb=memory_mb(),
        )
        self.write()
        say(f"Written: {self.file}")

    def measure_group(self, group):
        """Time some convolutions, again if something else had the device meanwhile, half of them if it always has."""
        shapes = [shape for _, shape in group]
        best = None
        for _ in range(ATTEMPTS):
            runs = Runs(self.clock)
            times = self.runtime.time_convolutions(shapes, self.answer["threads"], self.answer["precision"], runs)
            if len(group) > 1 and runs.were_too_long():
                self.measure_group(group[: len(group) // 2])
                self.measure_group(group[len(group) // 2 :])
                return
            found = np.maximum(runs.low_and_median(times), self.runtime.RESOLUTION / 2)
            best = found if best is None else np.minimum(best, found)
            low, median = best.sum(0)
            if median <= low * (1 + self.noise) and not self.is_disturbed():
                break
        for (key, _), (low, median) in zip(group, best):
            self.answer["convolutions"][key] = [round(float(low), 6), round(float(median), 6)]

    def is_disturbed(self):
        """Return True if the first network takes longer than it can."""
        if not self.first:
            return False
        now = min(timed(self.first, self.clock), timed(self.first, self.clock))
        self.fastest = min(self.fastest, now)
        return now > self.fastest * (1 + max(DRIFT, self.noise))

    def measure_networks(self):
        """Time the networks in turns, again while they scatter; refuse to write what is noise."""
        networks = {}
        for name, file in self.bundle["networks"].items():  # not earlier: beside the convolutions they take memory
            networks[name] = self.open(file) if networks else self.first
        best = {}
        for _ in range(ATTEMPTS):
            times, undisturbed = {name: [] for name in networks}, {name: [] for name in networks}
            for _ in range(WARMUP + ROUNDS):
                for name, run in networks.items():
                    before = switches()
                    times[name].append(timed(run, self.clock))
                    undisturbed[name].append(switches() == before)
            for name, runs in times.items():
                alone = undisturbed_runs(runs[WARMUP:], undisturbed[name][WARMUP:])
                low, median, high = (round(float(q), 6) for q in np.percentile(alone or runs[WARMUP:], (10, 50, 90)))
                rank = (self.answer["clock"] == "wall" and not alone, median / low)
                if name not in best or rank < best[name]:
                    best[name] = rank
                    found = {"low": low, "median": median, "high": high, "interrupted": rank[0]}
                    self.answer["networks"][name] = found
            noisy = [n for n, (interrupted, scatter) in best.items() if interrupted or scatter > 1 + self.noise]
            if not noisy:
                break
            say(f"{', '.join(noisy)}: times scatter, or other work had the CPU in nearly every run; measured again")
        low, median = np.array([*self.answer["convolutions"].values()]).reshape(-1, 2).sum(0)
        if median > low * (1 + self.noise):
            noisy.append("convolutions")
        self.answer["noisy"] = noisy
        if noisy and not self.anyway:
            measured = self.answer["convolutions"].items()
            self.answer["convolutions"] = {k: t for k, t in measured if t[1] <= t[0] * (1 + self.noise)}
            self.write()
            raise SystemExit(
                f"Not written to its end: {', '.join(noisy)} cannot be told from noise, half of the runs took over "
                f"{self.noise:.0%} longer than the fastest, or other work had the CPU in nearly every run. Stop what "
                "else runs here, fix the clock, and run again; or pass a larger --noise, or --anyway."
            )

    def write(self):
        """Write the answer as it is, whole."""
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.answer, indent=1), encoding="utf-8")
        os.replace(temporary, self.file)


def memory_mb():
    """Return the most megabytes that this process has held, 0 where nothing tells."""
    status = Path("/proc/self/status")
    if status.exists():  # the kernel's other figure counts what the process has held before it became this one
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return round(int(lines["VmHWM"].split()[0]) / 1e3)
    if not importlib.util.find_spec("resource"):  # on Windows
        return 0
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))


def timed(run, clock):
    """Return the milliseconds of one run, by the runtime's own clock if it tells."""
    begin = clock()
    own = run()
    return own if isinstance(own, float) else 1e3 * (clock() - begin)


def say(sentence):
    """Tell the person in front of the board."""
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
