# SPDX-License-Identifier: AGPL-3.0-or-later
"""The deploy stage: files for the device, validated and timed in their own runtimes."""
