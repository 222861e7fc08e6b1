# SPDX-License-Identifier: AGPL-3.0-or-later
"""Many runs from one dense model: which there are, what they share, where they run, and their table."""
