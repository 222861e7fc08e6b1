# SPDX-License-Identifier: AGPL-3.0-or-later
"""The base of classes that stand before a stock trainer among the bases of a class and add to it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as StockTrainer
else:
    StockTrainer = object  # at run time they add to whichever trainer comes after them, and are none by themselves

__all__ = ("StockTrainer",)
