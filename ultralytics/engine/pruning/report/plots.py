# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report's pictures: layers, accuracy while fine-tuning, and where the latency went."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from ultralytics.engine.pruning.report.deploy_plot import draw_deployed
from ultralytics.engine.pruning.report.deployed import measured
from ultralytics.engine.pruning.report.style import ALARM, BASELINE, DENSE, LEGEND, PRUNED, picture
from ultralytics.utils import plt_settings

FEW = 0.1  # share of its channels at which a layer is marked as nearly emptied
PANELS = {"channels": "channels", "gflops": "GFLOPs at 640 pixels", "parameters": "parameters"}  # key: label
PART_SHADES = {"backbone": "#ffffff", "neck": "#f3f6fa", "head": "#e8edf4"}
CONTRADICTION = 0.25  # share by which the sum of the blocks may differ from the whole model's latency


def draw_report(report: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draw every picture that the report has data for.

    Args:
        report (dict): What `build_report` returned.
        folder (Path): Where the pictures go.

    Returns:
        (dict[str, Path]): Title to PNG file.
    """
    found = report.get("deploy")
    pictures = {
        **({"Files to deploy": (draw_deployed, "deploy.png")} if found and measured(found["rows"]) else {}),
        "Layers": (draw_layers, "layers.png"),
        "Latency of blocks": (draw_blocks, "latency.png"),
        **({"Fine-tuning": (draw_curve, "finetuning.png")} if report["curve"] else {}),
    }
    for draw, name in pictures.values():
        draw(report, folder / name)
    drawn = {title: folder / name for title, (_, name) in pictures.items()}
    if found and found["picture"]:
        drawn["Where the dense model and the proposed file differ most"] = Path(found["picture"])
    return drawn


@plt_settings()
def draw_layers(report: dict[str, Any], file: Path) -> None:
    """Draw channels, FLOPs and parameters of every layer as bars, the dense model's behind."""
    from matplotlib.ticker import EngFormatter

    layers, last = report["layers"], list(report["rows"])[-1]
    with picture(file, len(PANELS), figsize=(max(12, 0.17 * len(layers)), 11), sharex=True) as (_, axes):
        for axis, (key, label) in zip(axes, PANELS.items()):
            dense, pruned = zip(*(row[key] for row in layers))
            axis.bar(range(len(layers)), dense, width=0.9, color=DENSE, label="dense")
            axis.bar(range(len(layers)), pruned, width=0.9, color=PRUNED, label=last)
            axis.set_ylabel(label)
            shade_parts(axis, layers)
        few = [i for i, row in enumerate(layers) if row["channels"][1] <= FEW * row["channels"][0]]
        if few:
            tops = [layers[i]["channels"][0] for i in few]
            axes[0].scatter(few, tops, marker="v", s=14, color=ALARM, label=f"at most {FEW:.0%} of the channels left")
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=3, **LEGEND)
        axes[-1].yaxis.set_major_formatter(EngFormatter(sep=""))
        starts = [list(rows)[0] for _, rows in groupby(range(len(layers)), key=lambda i: layers[i]["block"])]
        axes[-1].set_xticks(starts, [layers[i]["block"] for i in starts], rotation=90, fontsize=7)
        axes[-1].set_xlim(-1, len(layers))
        axes[-1].set_xlabel("convolutions and linear layers, by block")


def shade_parts(axis: Any, layers: list[dict[str, Any]]) -> None:
    """Colour the background of backbone, neck and head, and name them."""
    first = 0
    for part, rows in groupby(layers, key=lambda row: row["part"]):
        last = first + len(list(rows))
        axis.axvspan(first - 0.5, last - 0.5, color=PART_SHADES[part], zorder=0)
        axis.text((first + last - 1) / 2, 1.01, part, transform=axis.get_xaxis_transform(), ha="center", fontsize=9)
        first = last


@plt_settings()
def draw_blocks(report: dict[str, Any], file: Path) -> None:
    """Draw the latency of every top-level block, dense and pruned, and what contradicts it."""
    dense, pruned = report["blocks"].values()
    rows = list(range(len(dense)))
    labels = [f"{name}, sum {sum(ms.values()):.1f} ms" for name, ms in report["blocks"].items()]
    with picture(file, figsize=(9, 1.2 + 0.3 * len(rows))) as (figure, axis):
        axis.barh([r - 0.2 for r in rows], dense.values(), height=0.4, color=DENSE, label=labels[0])
        axis.barh([r + 0.2 for r in rows], pruned.values(), height=0.4, color=PRUNED, label=labels[1])
        axis.set_yticks(rows, dense, fontsize=9)
        axis.invert_yaxis()
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlabel(f"ms in PyTorch (10th percentile), batch 1, {report['imgsz']} pixels, {report['device']}")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, **LEGEND)
        if doubts := contradictions(report):
            figure.suptitle("\n".join(doubts), fontsize=9, color=ALARM)


def contradictions(report: dict[str, Any]) -> list[str]:
    """Return a line for each model whose blocks do not add up to the latency that the table gives for the whole.

    Args:
        report (dict): What `build_report` returned.
    """
    lines = []
    for name, blocks in report["blocks"].items():
        total, whole = sum(blocks.values()), report["rows"][name]["pytorch_latency_p10_ms"]
        if abs(total / whole - 1) > CONTRADICTION:
            lines.append(
                f"{name}: the blocks sum to {total:.1f} ms, the whole model takes {whole:.1f} ms. "
                "Do not rely on the times of single blocks."
            )
    return lines


@plt_settings()
def draw_curve(report: dict[str, Any], file: Path) -> None:
    """Draw the accuracy against the epochs of the last training, with the dense model's as a line."""
    from matplotlib.ticker import MaxNLocator

    metric, epochs, values = (report["curve"][key] for key in ("metric", "epochs", "values"))
    reached = {name: f"{name}, {row[metric]:.3f}" for name, row in report["rows"].items()}
    before, last = list(report["rows"])[-2:]
    course = [report["rows"][before][metric], *values]
    with picture(file, figsize=(9, 4.5)) as (_, axis):
        axis.axhline(report["rows"]["dense"][metric], color=BASELINE, ls="--", lw=1, label=reached["dense"])
        axis.plot([0, *epochs], course, color=PRUNED, marker=".", label=reached[last])
        axis.set(xlabel=f"epoch of training (0: {before})", ylabel=metric)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
        axis.legend(loc="lower right", **LEGEND)
