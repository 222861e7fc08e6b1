# SPDX-License-Identifier: AGPL-3.0-or-later
"""What runs on the device that a model is for: Python 3.8, NumPy and one runtime, in a folder without this package."""
