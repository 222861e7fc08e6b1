# SPDX-License-Identifier: AGPL-3.0-or-later
"""Models of a quantization-aware training (QAT), whose layers carry ModelOpt's fake quantisation."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from ultralytics.cfg.compress.compat.quantization import is_qat, strip_qat


def refuse_qat(model: nn.Module, named: str) -> None:
    """Raise for a model that comes out of a quantization-aware training.

    Args:
        model (nn.Module): Ultralytics model.
        named (str): The argument that names it, i.e. "'model=best.pt'".

    Raises:
        ValueError: If it does: its weights are fitted to ranges of activations that a cut would change.
    """
    if is_qat(model):
        raise ValueError(
            f"{named} is a checkpoint of a quantization-aware training. Prune first, quantise after: compress the "
            "model that it was trained from, with 'quantize=8' for the fine-tuning. To take its weights without the "
            "quantisation: `from ultralytics.utils.torch_utils import strip_qat; m = YOLO('qat.pt'); "
            "strip_qat(m.model); m.save('plain.pt')`."
        )


def float_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose layers are torch's own: without fake quantisation, if it carries any.

    Args:
        model (nn.Module): Ultralytics model.

    Returns:
        (nn.Module): Copy with the same weights.
    """
    copy = deepcopy(model)
    strip_qat(copy)
    return copy
