# SPDX-License-Identifier: AGPL-3.0-or-later
"""What each channel is worth: methods, criteria, scores, sensitivity."""
