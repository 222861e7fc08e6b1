# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a killed training has left: brought back to the end of its last saved epoch, or completed."""

from __future__ import annotations

import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.cfg.compress.compat.checkpoints import DAMAGED, load_checkpoint
from ultralytics.engine.compress.checks.models import load_named
from ultralytics.engine.pruning.files import written_whole
from ultralytics.engine.pruning.report.sparsity_plot import DISTRIBUTION_FILE
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import strip_optimizer


def read_checkpoint(file: Path) -> tuple[nn.Module, dict[str, Any]] | None:
    """Return the model and the checkpoint of a file; None if it does not exist, is empty or was not written to its end.

    Args:
        file (Path): A .pt file.
    """
    if not zipfile.is_zipfile(file):  # what torch writes, its directory last
        return None
    try:
        return load_checkpoint(file)
    except TypeError as error:
        if isinstance(error.__cause__, DAMAGED):
            return None
        raise


def check_resumed(last: str | Path) -> None:
    """Check the last.pt that 'resume' names, unless it was not written to its end and best.pt can stand for it.

    Args:
        last (str | Path): Value of 'resume'.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of a model, or holds weights that are not finite.
    """
    if zipfile.is_zipfile(last) or read_checkpoint(Path(last).with_name("best.pt")) is None:
        load_named("resume", last)


def recover(last: Path, best: Path) -> bool:
    """Bring what a killed training has left back to the end of its last saved epoch.

    A checkpoint that cannot be read is taken for absent, and the other one stands for it; best.pt is the last epoch's
    if that was the best; and epochs that begin anew are taken off the tables.

    Args:
        last (Path): The training's last.pt.
        best (Path): Its best.pt.

    Returns:
        (bool): False if no epoch of it is left.
    """
    newest, fittest = read_checkpoint(last), read_checkpoint(best)
    found = newest or fittest
    if found is None:
        if last.exists() or best.exists():
            _tell(f"neither '{last}' nor '{best}' can be read: this training begins anew")
        return False
    if newest is None:
        _tell(f"'{last}' cannot be read: going on from '{best}'")
        _copy(best, last)
    elif fittest is None and not _is_best(newest[1]):
        _tell(f"'{best}' cannot be read: '{last}' stands for it")
        _copy(last, best)
    elif fittest is None or (_is_best(newest[1]) and fittest[1]["epoch"] != newest[1]["epoch"]):
        _copy(last, best)  # killed between the two
    done = found[1]["epoch"] + 1
    if done > 0:  # the training goes on
        for name in ("results.csv", DISTRIBUTION_FILE):
            drop_epochs_after(done, last.parents[1] / name)
    return True


def training_ended(last: Path) -> bool:
    """Return True for a last.pt after which no epoch is left; strip it if Ultralytics has not come to that."""
    checkpoint: dict[str, Any] = load_checkpoint(last)[1]
    if 0 <= checkpoint["epoch"] < checkpoint["train_args"]["epochs"] - 1 and not _out_of_patience(checkpoint):
        return False
    for file in (last.with_name("best.pt"), last):
        found = read_checkpoint(file)
        if found and found[1]["epoch"] >= 0:  # -1 as Ultralytics leaves it
            with written_whole(file) as temporary:
                strip_optimizer(file, str(temporary), {"train_results": checkpoint.get("train_results")})
    return True


def drop_epochs_after(done: int, file: Path) -> None:
    """Take the rows of epochs that will be trained again off a table, and one that was not written to its end.

    Args:
        done (int): The last epoch that counts, from 1.
        file (Path): CSV file whose first column is the epoch; it need not exist.
    """
    if not file.exists():
        return
    heading, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    whole = (row for row in rows if row.count(",") == heading.count(","))
    kept = [row for row in whole if int(row.split(",")[0]) <= done]
    if kept != rows:
        with written_whole(file) as temporary:
            temporary.write_text("".join([heading, *kept]), encoding="utf-8")


def _out_of_patience(checkpoint: dict[str, Any]) -> bool:
    """Return True if Ultralytics' early stopping has ended a training; older releases do not write what it knows."""
    patience = checkpoint["train_args"]["patience"]  # 0 for any
    best = (checkpoint.get("stopper") or {}).get("best_epoch") or math.inf  # from 1; 0 of one that was not validated
    since = checkpoint["epoch"] + 1 - best
    return patience > 0 and since >= patience


def _is_best(checkpoint: dict[str, Any]) -> bool:
    """Return True for a checkpoint that Ultralytics writes to best.pt as well; one that has ended does not say."""
    return checkpoint["epoch"] >= 0 and checkpoint["train_metrics"]["fitness"] == checkpoint["best_fitness"]


def _copy(source: Path, target: Path) -> None:
    """Copy a file, whole."""
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def _tell(text: str) -> None:
    """Say what was damaged."""
    LOGGER.warning(f"{colorstr('compress:')} {text}")
