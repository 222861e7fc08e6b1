# SPDX-License-Identifier: AGPL-3.0-or-later
"""Checkpoints that cannot be pruned as they are, in an equal form of stock classes; see `stock_form`."""
