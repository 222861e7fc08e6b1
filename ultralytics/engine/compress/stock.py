# SPDX-License-Identifier: AGPL-3.0-or-later
"""Typing base for mixins that precede an Ultralytics trainer among the bases of a class."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as StockTrainer
else:
    StockTrainer = object  # at run time they add to whichever trainer comes after them, and are none by themselves

__all__ = ("StockTrainer",)
