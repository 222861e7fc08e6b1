# SPDX-License-Identifier: AGPL-3.0-or-later
"""Any network: what is pruned through, what stays whole at which share of the cost, and what is refused.

    python benchmarks/any_network.py --out runs/any_network
    python benchmarks/any_network.py --out runs/any_network --blocks my_blocks.py --kinds block

A network is made around every block of some files, every module of Ultralytics, and backbones of torchvision and timm
(if it is installed); random networks mix such blocks with stock ones; and a folder of wheels gives checkpoints of
others. A file of blocks has `BLOCKS`, a dictionary of classes or the list of their names, and each is made as
`Block(channels)`. Every network is pruned to half its FLOPs, or as far as it can be, and compared with the dense one
whose pruned channels are masked: in inference, and in training with the statistics of the batch. Networks are worked
on in a process of their own, whose end or silence is a result as well.

Results are written after each row, and a second run of the command goes on behind them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from any_network_cases import OWN_BLOCKS, list_cases
from any_network_proof import examine
from fetch import machine, markdown

from ultralytics.utils import LOGGER, TQDM

LIMIT = 600  # seconds for one network
RANDOM = 300
WORDS = {  # result: what it says of a network
    "pruned": "pruned through: at most 1% of the FLOPs stay whole beside the predictions",
    "in part": "pruned, and some layers stay whole",
    "whole": "left whole",
    "refused": "refused with a sentence",
    "caught": "cut wrongly, which the check of every cut found: refused, nothing is saved",
    "stock fails": "stock Ultralytics cannot run it",
    "MISSED": "the target is missed or exceeded by more than a tenth",
    "WRONG": "pruned, and computes something else",
    "CRASH": "an exception from inside, or the end of the process",
    "HANG": f"not done in {LIMIT} s",
}
SHOWN = {"refused", "caught", "stock fails", "MISSED", "WRONG", "CRASH", "HANG"}  # of random networks, too
COLUMNS = (
    "kind",
    "name",
    "result",
    "reached",
    "reachable",
    "whole",
    "why",
    "oracle",
    "training",
    "graph_s",
    "graph_mb",
)


class Worker:
    """A process that examines one network after the other, and is replaced when it ends or hangs."""

    def __init__(self):
        self.process = None

    def examine(self, kind: str, name: str) -> dict[str, Any]:
        """Return the row of a network."""
        if self.process is None:
            context = get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send((kind, name))
        try:
            if self.pipe.poll(LIMIT):
                return self.pipe.recv()
            result = {"result": "HANG", "why": WORDS["HANG"]}
        except EOFError:
            self.process.join()
            result = {"result": "CRASH", "why": f"the process ended with exit code {self.process.exitcode}"}
        self.stop()
        return result

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def serve(pipe) -> None:
    """Examine what comes through the pipe."""
    while True:
        pipe.send(examine(*pipe.recv()))


def run(cases: list[tuple[str, str]], file: Path) -> list[dict[str, Any]]:
    """Return the rows of all networks, those of an earlier run from its file."""
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    worker = Worker()
    try:
        for kind, name in TQDM(cases, desc="Networks"):
            key = f"{kind} {name}"
            if key not in rows:
                rows[key] = {"kind": kind, "name": short(name), **worker.examine(kind, name)}
                file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    finally:
        worker.stop()
    return [rows[f"{kind} {name}"] for kind, name in cases]


def short(name: str) -> str:
    """Return a name without the folders of its file."""
    return Path(name).name.removesuffix("-py3-none-any.whl") if name.startswith("/") else name


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown: a summary of every kind, and a row of each network but the random ones."""
    counts = {kind: Counter(row["result"] for row in rows if row["kind"] == kind) for kind in kinds_of(rows)}
    found = [word for word in WORDS if any(word in count for count in counts.values())]
    summary = [[kind, str(count.total()), *(str(count[word]) for word in found)] for kind, count in counts.items()]
    total = sum(counts.values(), Counter())
    summary.append(["all", str(total.total()), *(str(total[word]) for word in found)])
    single = [cells(row) for row in rows if row["kind"] != "random" or row["result"] in SHOWN]
    slowest = max((row for row in rows if "graph_s" in row), key=lambda row: row["graph_s"], default=None)
    largest = max((row for row in rows if "graph_mb" in row), key=lambda row: row["graph_mb"], default=None)
    notes = [f"- {word}: {WORDS[word]}." for word in found]
    if slowest and largest:
        notes.append(
            f"- The slowest graph took {slowest['graph_s']:.1f} s ({slowest['kind']} {slowest['name']}), the largest "
            f"{largest['graph_mb']:.0f} MB beyond the model ({largest['kind']} {largest['name']})."
        )
    headings = ["kind", "network", "result", "reached", "reachable", "stays whole", "why", "oracle", "in training"]
    return "\n\n".join(
        [
            markdown(["kind", "networks", *found], summary),
            "\n".join(notes),
            markdown([*headings, "graph (s)", "graph (MB)"], single),
        ]
    )


def kinds_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of networks."""
    return list(dict.fromkeys(row["kind"] for row in rows))


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a network."""
    forms = {"reached": "{:.2f}", "reachable": "{:.2f}", "whole": "{:.1%}", "oracle": "{:.0e}", "training": "{:.0e}"}
    forms |= {"graph_s": "{:.2f}", "graph_mb": "{:.0f}"}
    return [forms.get(key, "{}").format(row[key]).replace("|", "/") if key in row else "" for key in COLUMNS]


def main() -> None:
    """Examine every network, and write results.json, any_network.csv and any_network.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--blocks", type=Path, nargs="*", default=[OWN_BLOCKS], help="files of blocks")
    parser.add_argument("--checkpoints", type=Path, help="folder of wheels that carry a checkpoint")
    parser.add_argument("--random", type=int, default=RANDOM, help="how many random networks")
    parser.add_argument("--kinds", nargs="+", help="of networks, by default all")
    parser.add_argument("--only", nargs="+", help="names of networks")
    args = parser.parse_args()
    args.blocks = [file.resolve() for file in args.blocks]
    args.checkpoints = args.checkpoints and args.checkpoints.resolve()
    cases = [(kind, name) for kind, names in list_cases(args).items() for name in names]
    cases = [(kind, name) for kind, name in cases if not args.kinds or kind in args.kinds]
    cases = [(kind, name) for kind, name in cases if not args.only or {name, name.rpartition(":")[2]} & {*args.only}]
    args.out.mkdir(parents=True, exist_ok=True)
    rows = run(cases, args.out / "results.json")
    with open(args.out / "any_network.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (args.out / "any_network.md").write_text(f"{table(rows)}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
