# SPDX-License-Identifier: AGPL-3.0-or-later
"""What is shown of a run: the report as JSON, table, page and pictures."""
