# SPDX-License-Identifier: AGPL-3.0-or-later
"""Check before shipping: where a deployed file differs from the dense model, picture by picture and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.engine.compress.deploy.accuracy import count_same, is_comparable, predictions, validation_pictures
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.engine.pruning.report.style import picture
from ultralytics.engine.results import Results
from ultralytics.utils import plt_settings

PICTURES = 200  # of the validation set that are compared at most
SHOWN = 8  # of them that are drawn


def compare_with_dense(
    run: StockTrainer, dense: Path, file: Path, form: str, drawing: Path | None
) -> list[dict[str, Any]]:
    """Compare the predictions of the dense model and of an exported file, and draw those that differ most.

    Args:
        run (StockTrainer): Has the data set and the arguments.
        dense (Path): Dense checkpoint.
        file (Path): Export.
        form (str): Ultralytics' name of its format.
        drawing (Path, optional): PNG to write.

    Returns:
        (list[dict[str, Any]]): Per picture 'picture', the objects of the 'dense' and the 'deployed' model, and those
            that one of them finds 'alone'; most of these first. Empty for tasks whose predictions are maps.
    """
    pictures = validation_pictures(run, dense, PICTURES)
    pairs = zip(
        predictions(dense, pictures, run.args, run.device), predictions(file, pictures, run.args, run.device, form)
    )
    rows: list[dict[str, Any]] = []
    shown: list[tuple[int, tuple[Results, Results]]] = []
    for name, pair in zip(pictures, pairs):
        if not is_comparable(pair[0]):
            return []
        same, both = count_same(*pair)
        rows.append({"picture": name, "dense": len_of(pair[0]), "deployed": len_of(pair[1]), "alone": both - 2 * same})
        shown = sorted([*shown, (rows[-1]["alone"], pair)], key=lambda found: -found[0])[:SHOWN]
    if drawing:
        draw_pairs([pair for _, pair in shown], drawing)
    return sorted(rows, key=lambda row: -row["alone"])


def len_of(result: Results) -> int:
    """Return the number of objects, or 1 for a class."""
    return 1 if result.probs is not None else len(result)


@plt_settings()
def draw_pairs(pairs: list[tuple[Results, Results]], file: Path) -> None:
    """Draw predictions side by side as Ultralytics draws them: the dense model on the left.

    Args:
        pairs (list[tuple[Results, Results]]): Predictions of the dense model and of the deployed file.
        file (Path): PNG to write.
    """
    rows = -(-len(pairs) // 2)  # two pairs in a row
    with picture(file, rows, 4, figsize=(16, 4.2 * rows), squeeze=False) as (_, axes):
        for axis in axes.flat:
            axis.axis("off")
        for place, pair in zip(axes.reshape(-1, 2), pairs):
            for axis, result, name in zip(place, pair, ("dense", "deployed")):
                axis.imshow(result.plot()[..., ::-1])
                axis.set_title(f"{name}: {Path(result.path).name}", fontsize=8)


def classes_that_paid(dense: Mapping[str, float], deployed: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what every class has lost, those that lost most first.

    Args:
        dense (Mapping[str, float]): Class to the AP50-95 of the dense model.
        deployed (Mapping[str, float]): The same of the deployed one.

    Returns:
        (list[dict[str, Any]]): 'class', its AP50-95 'dense' and 'deployed', and the 'loss'.
    """
    losses = {c: ap - deployed.get(c, 0.0) for c, ap in dense.items()}
    paid = sorted(losses, key=lambda c: -losses[c])
    return [{"class": c, "dense": dense[c], "deployed": deployed.get(c, 0.0), "loss": losses[c]} for c in paid]
