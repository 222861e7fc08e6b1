# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is checked before a run has a folder: its models, its data and training's keys, its sparsity training."""
