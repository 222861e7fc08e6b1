# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys of the compress mode, their checks, and the switch that turns the extension on."""

__version__ = "0.2.0"
