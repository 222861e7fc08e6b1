# SPDX-License-Identifier: AGPL-3.0-or-later
"""The fastest model that keeps its accuracy: which target to try next, and the runs of the tries."""
