# SPDX-License-Identifier: AGPL-3.0-or-later
"""Structured pruning as a library: model in, model out; it knows no trainer and no data set.

The way of a model: `trace` (which layers read which) → `groups` (which channels go together) → `criteria` (what a
channel is worth) → `budget` (how many each layer keeps) → `cut` (slice the layers). `prune.prune_model` walks it;
`checkpoint` and `architecture` keep the result.
"""
