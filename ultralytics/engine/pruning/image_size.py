# SPDX-License-Identifier: AGPL-3.0-or-later
"""The image sizes that a network takes."""

from __future__ import annotations

from torch import nn

from ultralytics.utils.checks import check_imgsz

LEAST_STRIDE = 32  # pixels, of which Ultralytics' trainers make image sizes a multiple at least


def image_stride(model: nn.Module) -> int:
    """Return the pixels of which a side of a model's images must be a multiple."""
    return max(int(model.stride.max()), LEAST_STRIDE)


def fit_image_size(model: nn.Module, imgsz: int | list[int]) -> int:
    """Return the image size that training and validation take for a wanted one: the next multiple of the stride.

    Args:
        model (nn.Module): An Ultralytics model.
        imgsz (int | list[int]): Size in pixels; of several, the largest counts.

    Returns:
        (int): Size in pixels; that it is another one is logged by Ultralytics.
    """
    return check_imgsz(imgsz, stride=image_stride(model), floor=image_stride(model), max_dim=1)
