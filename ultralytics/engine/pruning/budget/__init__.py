# SPDX-License-Identifier: AGPL-3.0-or-later
"""How many channels each layer keeps so that the target is met."""
