# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which page of the documentation explains an error."""

from __future__ import annotations

import re

from ultralytics.cfg.compress.keys import DEFAULTS

ARGUMENTS, TROUBLE = "docs/modes/compress.md", "docs/troubleshooting.md"
PAGES = {  # key to the page that has more to say of it than the table of arguments
    **dict.fromkeys(("speed_up", "target", "budget", "precision", "max_drop"), "docs/targets.md"),
    "runner": "docs/device.md",
    **dict.fromkeys(("deploy", "int8_drop"), "docs/deploy.md"),
    **dict.fromkeys(("prune_method", "sensitivity", "sensitivity_drop"), "docs/methods.md"),
    **dict.fromkeys(("sl_epochs", "reg", "delta_reg"), "docs/methods.md"),
    **dict.fromkeys(("use_ray", "gpu_per_trial", "max_failures", "storage_path", "grace_period"), "docs/scaling.md"),
}


def explain(error: BaseException) -> str:
    """Return an error's sentence and, in a line of its own, the page that explains it.

    Args:
        error (BaseException): Refusal; its sentence names the argument first.
    """
    named = re.match(r"'(\w+)[='\s]", str(error))
    page = PAGES.get(named[1], ARGUMENTS) if named and named[1] in DEFAULTS else TROUBLE
    return f"{error}\nSee {page} in the repository of ultralytics-compress."
