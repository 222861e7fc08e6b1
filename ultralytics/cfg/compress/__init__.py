# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys of the compress mode, their checks, and the switch that turns the extension on."""

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """Return the version of this package and of those that decide what a cut looks like, by their distributions' names.

    Without importing torch-pruning, which plain Ultralytics must not pay for.
    """
    from importlib.metadata import version

    import torch

    import ultralytics

    return {
        "ultralytics-compress": __version__,
        "ultralytics": ultralytics.__version__,
        "torch": str(torch.__version__),  # a class of torch's own, which a checkpoint must not hold
        "torch-pruning": version("torch-pruning"),
    }


def describe_version() -> str:
    """Return all versions in one line, for the log."""
    return ", ".join(f"{name} {version}" for name, version in versions().items())
