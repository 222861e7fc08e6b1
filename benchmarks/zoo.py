# SPDX-License-Identifier: AGPL-3.0-or-later
"""Rows for the zoo: models, targets, methods and seeds on one data set as one grid, each row with its receipts.

    python benchmarks/zoo.py --out runs/zoo --data shapes --models yolov8n.yaml yolo11n.yaml --seeds 0 1 2
    python benchmarks/zoo.py --out runs/mine --data mine.yaml --models a.pt b.pt --speed-ups 2 3 4 --keys epochs=100
    python benchmarks/zoo.py --out runs/mine --data mine.yaml --models a.pt b.pt --keys use_ray=True gpu_per_trial=1

The grid is a sweep of the package: `.yaml` models are trained first, once for every seed, `.pt` models must have been
trained on the data set. A second run of the command goes on where the first one was stopped. Written are zoo.md, the
rows, and zoo.log, all that was logged. With `deploy=...` among the keys, rows have the milliseconds of each file, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from experiment import SETTINGS, settings_of, spread
from fetch import machine, markdown

from ultralytics import YOLO
from ultralytics.cfg import parse_key_value_pair
from ultralytics.engine.pruning.report.sweep_plot import without_seed
from ultralytics.utils import LOGGER

NAME = "zoo"
TIMED = "_latency_p10_ms"  # what columns of a runtime's milliseconds end with
Row = Mapping[str, Any]  # of the sweep's table


def main() -> None:
    """Run the grid, and write zoo.md and zoo.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--data", required=True, help=f"YAML of a data set, or one of {', '.join(SETTINGS)}")
    parser.add_argument("--bccd", type=Path, help="clone of Shenggan/BCCD_Dataset, for --data cells")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--speed-ups", type=float, nargs="+", default=[2.0, 3.0])
    parser.add_argument("--methods", nargs="+", default=["group_taylor"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keys", nargs="*", default=[], help="further keys of `yolo compress`, i.e. epochs=100")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    keys = {**settings(args, out), **dict(map(parse_key_value_pair, args.keys))}
    keys |= {"model": args.models, "speed_up": args.speed_ups, "prune_method": args.methods, "seed": args.seeds}
    keys |= {"project": str(out / "runs"), "name": NAME, "exist_ok": True}
    with logged(out / "zoo.log"):
        resume = (out / "runs" / f"{NAME}-sweep" / "runs.yaml").exists()
        result = YOLO(args.models[0]).compress(**keys, resume=resume)
    deployed = {row["model"]: milliseconds(Path(row["weights"])) for row in result["rows"]}
    rows = [{**row, **deployed[row["model"]]} for row in result["rows"]]
    written = {"about": machine(), "command": command(keys), **result, "rows": rows}
    (out / "zoo.json").write_text(json.dumps(written, indent=2), encoding="utf-8")
    text = describe(written, keys, out)
    (out / "zoo.md").write_text(text, encoding="utf-8")
    LOGGER.info(text)


def settings(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Return the training arguments of a data set: those of the experiments on it, or Ultralytics' own."""
    return settings_of(args.data, out, bccd=args.bccd) if args.data in SETTINGS else {"data": args.data}


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Have the log in a file as well until the block ends."""
    handler = logging.FileHandler(file, encoding="utf-8")
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


def command(keys: Mapping[str, Any]) -> str:
    """Return the command that makes the same grid."""
    words = (f"{key}={value}".replace(", ", ",").replace("'", "") for key, value in keys.items())
    return f"yolo compress {' '.join(shlex.quote(word) for word in words)}"


def milliseconds(weights: Path) -> dict[str, float]:
    """Return the milliseconds of the files that a run has deployed; empty for a run that has none."""
    report = weights.parents[1] / "report.json"
    if not report.exists():
        return {}
    rows = json.loads(report.read_text(encoding="utf-8")).get("deploy", {}).get("rows", [])
    return {f"{row['target']}{TIMED}": row["p10_ms"] for row in rows if row["model"] == "fine-tuned" and row["p10_ms"]}


def describe(written: Mapping[str, Any], keys: Mapping[str, Any], out: Path) -> str:
    """Return the rows as Markdown, seeds together, with what it takes to make and to check them."""
    metric = written["metric"]
    alike: dict[str, list[Row]] = {}
    for row in written["rows"]:
        alike.setdefault(without_seed(row["model"], row["seed"]), []).append(row)
    timed = list(dict.fromkeys(key for row in written["rows"] for key in row if key.endswith(TIMED)))
    headings = ["model", "seeds", metric, "after the cut", "GFLOPs", "million parameters"]
    headings += [f"{key.removesuffix(TIMED)} ms" for key in timed]
    table = [cells(label, rows, metric, timed) for label, rows in alike.items()]
    about = ", ".join(f"{key}: {value}" for key, value in written["about"].items())
    runs = [f"- {label}: {', '.join(run_of(row, out) for row in rows)}" for label, rows in alike.items()]
    return "\n".join(
        [
            f"## {Path(str(keys['data'])).stem}, {written['imgsz']} pixels\n",
            f"```bash\n{written['command']}\n```\n",
            f"{markdown(headings, table)}\n",
            f"Mean, and range over the seeds. {about}.\n",
            f"Log: `{(out / 'zoo.log').name}`. Runs, each with its report, its arguments and its curve:\n",
            *runs,
            "",
        ]
    )


def cells(label: str, rows: Sequence[Row], metric: str, timed: Sequence[str]) -> list[str]:
    """Return a row of the table."""

    def averaged(key: str, form: Callable[[float], str]) -> str:
        found = [row[key] for row in rows if row.get(key) is not None]
        return form(mean(found)) if found else ""

    return [
        label,
        ", ".join(str(row["seed"]) for row in rows if row["seed"] is not None),
        spread([row[metric] for row in rows]),
        spread([row[f"{metric} after the cut"] for row in rows]),
        averaged("gflops", "{:.2f}".format),
        averaged("parameters", lambda count: f"{count / 1e6:.2f}"),
        *(averaged(key, "{:.2f}".format) for key in timed),
    ]


def run_of(row: Row, out: Path) -> str:
    """Return the folder of the run that has made a model, below that of the results if it is there."""
    folder = Path(row["weights"]).parents[1] if Path(row["weights"]).parent.name == "weights" else Path(row["weights"])
    return f"`{folder.relative_to(out) if folder.is_relative_to(out) else folder}`"


if __name__ == "__main__":
    main()
