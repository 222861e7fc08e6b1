# SPDX-License-Identifier: AGPL-3.0-or-later
"""The sensitivity map of a run: validations of the task's own validator, kept in a CSV, and a heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ultralytics.cfg.compress.compat.training import override_configs
from ultralytics.engine.compress.batches import model_lent
from ultralytics.engine.compress.validation import validation_arguments
from ultralytics.engine.pruning.files import read_csv, write_csv
from ultralytics.engine.pruning.log import warnings_only
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.engine.pruning.ranking.scoring import Losses
from ultralytics.engine.pruning.ranking.sensitivity import RATIOS, measure_sensitivity
from ultralytics.engine.pruning.report.sensitivity_plot import draw_sensitivity, short_name
from ultralytics.utils import LOGGER

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer

SENSITIVITY_FILE = "sensitivity.csv"


def map_sensitivity(
    trainer: BaseTrainer,
    model: nn.Module,
    metric: str,
    key: str,
    losses: Losses | None,
    batch: int,
    known: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Measure the sensitivity map, or the rest of it, in a run's folder.

    Args:
        trainer (BaseTrainer): The compressor, which has data set, arguments and folder.
        model (nn.Module): The model to be pruned.
        metric (str): Name of the accuracy.
        key (str): Its name in a validation's results.
        losses (Callable, optional): For methods that need gradients.
        batch (int): Images in a batch of the validations.
        known (Sequence[dict[str, Any]]): Rows that another run has measured on the same model.

    Returns:
        (list[dict[str, Any]]): See `measure_sensitivity`.
    """
    file = trainer.save_dir / SENSITIVITY_FILE

    def keep(rows: list[dict[str, Any]]) -> None:
        write_csv(file, rows)
        if line := describe_layer(rows, metric):
            LOGGER.info(line)

    rows = measure_sensitivity(
        model,
        validation_of(trainer, model, key, batch),
        METHODS[trainer.prune_args.prune_method],
        losses,
        trainer.args.seed,
        known=[*known] or read_rows(file),
        on_row=keep,
    )
    if trainer.args.plots:
        draw_sensitivity(rows, metric, file.with_suffix(".png"))
        trainer.on_plot(file.with_suffix(".png"))
    return rows


def validation_of(trainer: BaseTrainer, model: nn.Module, key: str, batch: int) -> Callable[[nn.Module], float]:
    """Return what validates models on one loader, which is built once.

    Args:
        trainer (BaseTrainer): The compressor.
        model (nn.Module): The dense model.
        key (str): Name of the metric in a validation's results.
        batch (int): Images in a batch.

    Returns:
        (Callable): Model, which is fused by it, to the metric.
    """
    args = trainer.args
    with model_lent(trainer, model), override_configs(args, validation_arguments(args)):
        trainer.test_loader = trainer.get_dataloader(trainer.data[args.split], batch_size=batch, rank=-1, mode="val")
        validator = trainer.get_validator()
    del trainer.test_loader  # the validator alone holds it, as long as it is needed

    def validate(pruned: nn.Module) -> float:
        with warnings_only():  # over a hundred validations follow one another
            return float(validator(model=pruned)[key])

    return validate


def describe_layer(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Return what the log says once the last ratio of a layer is measured; empty before.

    Args:
        rows (Sequence[dict[str, Any]]): Rows measured so far, see `measure_sensitivity`.
        metric (str): Name of the accuracy.
    """
    layers = rows[-1]["layers"]
    if not layers:
        return f"Sensitivity: {metric} of the dense model {rows[-1]['accuracy']:.4f}"
    if rows[-1]["ratio"] != RATIOS[-1]:
        return ""
    drops = (f"{row['drop']:.4f} at {row['ratio']:.0%}" for row in rows if row["layers"] == layers)
    return f"Sensitivity of {short_name(layers)}: drop of {metric} {', '.join(drops)}"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of an interrupted map, if there is one."""
    if not file.exists():
        return []
    kinds = {"layers": str, "width": int, "kept": int}
    return [{k: kinds.get(k, float)(v) for k, v in row.items()} for row in read_csv(file)]
