# SPDX-License-Identifier: AGPL-3.0-or-later
"""Data sets of textured shapes that draw themselves: `cfg/datasets/shapes*.yaml` call `draw_dataset` to be drawn."""

from ultralytics.data.shapes.dataset import draw_dataset

__all__ = ("draw_dataset",)
