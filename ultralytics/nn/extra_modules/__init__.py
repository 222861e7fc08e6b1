# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prunable forms of Ultralytics' blocks; `prunable` lists them and puts them in and out of a model."""
