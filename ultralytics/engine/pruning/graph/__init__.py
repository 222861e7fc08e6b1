# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which channels of which layers go together."""
