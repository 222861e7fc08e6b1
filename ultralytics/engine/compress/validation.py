# SPDX-License-Identifier: AGPL-3.0-or-later
"""How the models of a run are validated, in its report and in its sensitivity map alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

TAKEN = (  # arguments of the run that hold in its validations
    "data",
    "imgsz",
    "workers",
    "split",
    "fraction",
    "single_cls",
    "classes",
    "conf",
    "iou",
    "max_det",
    "nms",
    "end2end",  # before nms
    "agnostic_nms",
    "augment",
    "quantize",
    "half",  # before quantize
    "int8",
    "dnn",
    "channels_last",
    "overlap_mask",
    "mask_ratio",
    "retina_masks",
    "verbose",
)
OWN = {  # a model is validated once, for its figures
    "mode": "val",
    "compile": False,
    "plots": False,
    "save_json": False,
    "save_txt": False,
    "visualize": False,
    "val": False,  # by which Ultralytics writes and evaluates a predictions.json on COCO and LVIS
}


def validation_arguments(args: SimpleNamespace) -> dict[str, Any]:
    """Return the arguments of a validation outside of trainings.

    Batches are rectangular, as in the validations of a stock training: 'rect' is a key of its training batches.

    Args:
        args (SimpleNamespace): Arguments of the run.

    Returns:
        (dict[str, Any]): Arguments, without batch, device and folder.
    """
    known = vars(args)  # not every Ultralytics has all of these
    return {**{key: known[key] for key in TAKEN if key in known}, **{key: OWN[key] for key in OWN if key in known}}
