# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints: the record, the architecture, the classes."""
