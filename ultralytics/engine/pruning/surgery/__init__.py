# SPDX-License-Identifier: AGPL-3.0-or-later
"""The cut, what it kept, and the proof that it is exact."""
