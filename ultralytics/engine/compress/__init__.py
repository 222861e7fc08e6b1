# SPDX-License-Identifier: AGPL-3.0-or-later
"""The runs of the compress mode: what happens when. `compress` is their typed entry point."""

from .api import compress

__all__ = ("compress",)
