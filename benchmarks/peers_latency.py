# SPDX-License-Identifier: AGPL-3.0-or-later
"""Accuracy against measured time: the models that `peers.py` has trained, timed side by side.

    python benchmarks/peers_latency.py --peers runs/peers_trees --threads 1

Accuracies are means over the seeds that all of them were trained with; timed are the models of one seed, in turns. It
wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from fetch import markdown
from latency import timing
from peers import LABELS

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_latency
from ultralytics.engine.pruning.latency.pytorch import pytorch_latency
from ultralytics.utils import LOGGER, plt_settings

METRIC = "mAP50-95"


def collect(results: dict[str, Any], arms: list[str], seed: int) -> dict[str, dict[str, Any]]:
    """Return what was trained, by arm and target.

    Args:
        results (dict[str, Any]): The results file of `peers.py`.
        arms (list[str]): Arms to time besides the dense model.
        seed (int): Seed whose models are to be timed.

    Returns:
        (dict[str, dict[str, Any]]): 'dense', or arm and target as in 'ours-2', to 'weights' of the seed,
            'flops_ratio', 'accuracy' (mean over the seeds that all of them have) and the number of these, 'seeds'.
    """
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for name, run in results["runs"].items():
        model, _, own = name.rpartition("-seed")
        if model.partition("-")[0] in ("dense", *arms):
            runs.setdefault(model, {})[int(own)] = run
    timed = {
        model: seeds for model, seeds in sorted(runs.items(), key=lambda item: item[0] != "dense") if seed in seeds
    }
    shared = set.intersection(*(set(seeds) for seeds in timed.values()))
    return {
        model: {
            "weights": seeds[seed]["weights"],
            "flops_ratio": seeds[seed].get("flops_ratio", 1.0),
            "accuracy": mean(seeds[s][METRIC] for s in shared),
            "seeds": len(shared),
        }
        for model, seeds in timed.items()
    }


@plt_settings()
def draw(found: dict[str, dict[str, Any]], milliseconds: dict[str, float], file: Path) -> None:
    """Draw accuracy against time, a line for each arm, the dense model as a level.

    Args:
        found (dict[str, dict[str, Any]]): What `collect` returned.
        milliseconds (dict[str, float]): Its names to medians.
        file (Path): PNG to write.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patheffects import withStroke

    label_style = {"ha": "center", "fontsize": 8, "path_effects": [withStroke(linewidth=3, foreground="white")]}
    fig, axis = plt.subplots(figsize=(8, 5))
    dense = found["dense"]["accuracy"]
    axis.axhline(dense, color="#333333", linestyle="--", linewidth=1)
    axis.scatter([milliseconds["dense"]], [dense], color="#333333", zorder=3, label="dense")
    for arm, label in LABELS.items():
        if names := [name for name in found if name.rpartition("-")[0] == arm]:
            names.sort(key=lambda name: milliseconds[name])
            points = [milliseconds[name] for name in names], [found[name]["accuracy"] for name in names]
            axis.plot(*points, marker="o", label=label.replace("`", ""))
            for name, x, y in zip(names, *points):
                target = f"{name.rpartition('-')[2]}x"
                axis.annotate(target, (x, y), xytext=(0, 6), textcoords="offset points", **label_style)
    axis.set_xlabel("median latency in ONNX Runtime on the CPU (ms)")
    axis.set_ylabel(METRIC)
    axis.margins(x=0.1)
    axis.set_xlim(left=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    fig.tight_layout()
    with written_whole(file) as temporary:
        fig.savefig(temporary, dpi=120, format="png")
    plt.close(fig)


def main() -> None:
    """Time the models and write latency.md and latency.png beside the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="the --out of peers.py")
    parser.add_argument("--seed", type=int, default=0, help="seed whose models are timed")
    parser.add_argument("--arms", nargs="+", choices=tuple(LABELS), default=["ours", "time", "loop"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = json.loads((args.peers / "results.json").read_text(encoding="utf-8"))
    imgsz = results["about"]["settings"]["imgsz"]
    found = collect(results, args.arms, args.seed)
    models = {name: load_checkpoint(row["weights"])[0] for name, row in found.items()}
    onnx, pytorch = onnx_latency(models, imgsz), pytorch_latency(models, imgsz, torch.device("cpu"))
    headings = ["model", f"{METRIC} (seeds)", "FLOPs ratio", "ONNX Runtime (ms)", "ratio", "PyTorch (ms)", "ratio"]
    rows = []
    for name, row in found.items():
        cells = [name, f"{row['accuracy']:.3f} ({row['seeds']})", f"{row['flops_ratio']:.2f}"]
        rows.append([*cells, *timing(onnx, name), *timing(pytorch, name)])
    table = markdown(headings, rows)
    (args.peers / "latency.md").write_text(f"{table}\n", encoding="utf-8")
    draw(found, {name: onnx[name].median for name in found}, args.peers / "latency.png")
    LOGGER.info(f"\n{imgsz} pixels, {args.threads} threads\n\n{table}")


if __name__ == "__main__":
    main()
