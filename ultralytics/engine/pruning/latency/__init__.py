# SPDX-License-Identifier: AGPL-3.0-or-later
"""Milliseconds of networks and convolutions, measured and predicted."""
