# SPDX-License-Identifier: AGPL-3.0-or-later
"""The image sizes that a network takes."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.engine.pruning.graph.heads import find_head, needed_cells
from ultralytics.engine.pruning.graph.outputs import for_a_while, runs
from ultralytics.utils.checks import check_imgsz

LARGER = (128, 256)  # pixels; on images of 256 Ultralytics builds its detectors
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


def image_channels(model: nn.Module) -> int:
    """Return the channels of a model's images; its first convolution may read what a Focus made of them.

    Args:
        model (nn.Module): An Ultralytics model.
    """
    own = getattr(model, "yaml", None) or {}
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    return own.get("channels", own.get("ch", first.in_channels))  # older releases say 'ch'


def example_image(model: nn.Module) -> torch.Tensor:
    """Return the smallest image that a network runs on, whose deepest feature map is not a single pixel.

    Blocks of one's own may need more, i.e. whole windows.

    Args:
        model (nn.Module): An Ultralytics model.

    Returns:
        (torch.Tensor): Zeros of shape (1, C, H, W), on the model's device; of the first size tried if none runs, so
            that whoever runs it says what is wrong.
    """
    stride, needed = image_stride(model), needed_cells(find_head(model))
    cells = 2  # a side of the deepest feature map, beside which two more count
    while cells**2 * (1 + 4 + 16) < needed:
        cells += 1
    device, least = next(model.parameters()).device, cells * stride
    sides = [least, *(side for side in LARGER if side > least)]
    images = [torch.zeros(1, image_channels(model), side, side, device=device) for side in sides]
    with for_a_while(model, nn.Module.eval):
        return next((image for image in images if runs(model, image)), images[0])
