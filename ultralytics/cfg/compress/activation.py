# SPDX-License-Identifier: AGPL-3.0-or-later
"""Turn the extension on: every name of Ultralytics that is in `PATCHES` is replaced, or nothing is."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import ultralytics
from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.compat import TESTED
from ultralytics.cfg.compress.compat.keys import has_module
from ultralytics.cfg.compress.patches import ABSENT, ADDED, ALSO_USED, PATCHES, TRAINERS, Unsupported
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import parse_version

OURS = "ultralytics.engine.compress"  # what every compress module of a task imports
failure = ""  # why nothing is replaced
replaced: list[tuple[Any, str, Any, Any]] = []  # owner, name, what Ultralytics has there, what stands there now


def apply(name: str) -> None:
    """Replace the names of one imported module; doing so twice changes nothing.

    Args:
        name (str): A key of `PATCHES`.

    Raises:
        Unsupported: If the module has not what the extension needs; nothing is replaced in it then.
    """
    if failure or name not in PATCHES:  # an editable checkout may be newer than the installed start-up hook
        return
    module = importlib.import_module(name)
    if name in TRAINERS:
        check_not_hidden(module)
    missing = [other for other in ALSO_USED.get(name, ()) if not any(hasattr(module, one) for one in other.split("|"))]
    new = []
    for path, build in PATCHES[name].items():
        owner_name, _, attribute = path.rpartition(".")
        owner = getattr(module, owner_name, ABSENT) if owner_name else module
        stock = ABSENT if owner is ABSENT else vars(owner).get(attribute, ABSENT)
        if owner is ABSENT or (stock is ABSENT and path not in ADDED):
            missing.append(path)
        elif not any(stock is now for *_, now in replaced):
            new.append((owner, attribute, stock, build))
    if missing:
        raise Unsupported(f"has no {', '.join(f'{name}.{other}' for other in missing)}")
    for owner, attribute, stock, now in [(*rest, build(rest[-1], module)) for *rest, build in new]:
        _replace(owner, attribute, stock, now)


def check_not_hidden(module: ModuleType) -> None:
    """Refuse an Ultralytics whose own module hides the one of this package beside a trainer.

    Args:
        module (ModuleType): The trainer's module.

    Raises:
        Unsupported: With what to do.
    """
    file = Path(module.__file__ or "").with_name("compress.py")
    if file.is_file() and OURS not in file.read_text(encoding="utf-8", errors="replace"):
        raise Unsupported(
            f"has a module '{file}' of its own, which 'python -m ultralytics_compress_drop_in' moves aside for that of "
            "this package"
        )


def tell_state() -> None:
    """Say whether the extension is on; if it is not, the reason has been said."""
    try:
        activate()
    except ImportError:
        return
    LOGGER.info(f"ultralytics-compress {__version__}: on, in {Path(__file__).parent}")


def _replace(owner: Any, name: str, stock: Any, now: Any) -> None:
    """Replace a name, and what other modules have imported of it: a drop-in copy comes after them."""
    users = [owner]
    if getattr(stock, "__module__", None) == getattr(owner, "__name__", ""):  # a function where it is defined
        users += [user for user in _modules() if user is not owner and vars(user).get(name) is stock]
    for user in users:
        replaced.append((user, name, stock, now))
        setattr(user, name, now)


def give_up(error: Exception) -> None:
    """Put everything back that was replaced, and say so once.

    Args:
        error (Exception): Why.
    """
    global failure
    if failure:
        return
    reason = str(error) if isinstance(error, Unsupported) else f"made it fail with {type(error).__name__}: {error}"
    failure = (
        f"ultralytics-compress {__version__} is off: Ultralytics {ultralytics.__version__} {reason}. Ultralytics works "
        "as without it; for 'compress', install versions of the two that go together."
    )
    for owner, name, stock, now in reversed(replaced):
        if stock is ABSENT:
            delattr(owner, name)
            continue
        for user in (owner, *_modules()):
            if vars(user).get(name) is now:
                setattr(user, name, stock)
    replaced.clear()
    LOGGER.warning(failure)


def _modules() -> list[ModuleType]:
    """Return Ultralytics' imported modules."""
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "ultralytics" and module]


def activate() -> None:
    """Replace everything now: for a drop-in copy, where no start-up hook waits for the imports.

    Raises:
        ImportError: If this Ultralytics is not supported, now or when the start-up hook tried.
    """
    try:
        for name in PATCHES:
            if name not in TRAINERS or has_module(name):
                apply(name)
    except Unsupported as error:
        give_up(error)
    if failure:
        raise ImportError(failure)
    warn_of_untested()


@functools.cache
def warn_of_untested() -> None:
    """Say once, and only to those who compress, that nobody has tried this with so new an Ultralytics."""
    if parse_version(ultralytics.__version__) > parse_version(TESTED[-1]):
        LOGGER.warning(
            f"ultralytics-compress {__version__} was tested with Ultralytics {TESTED[0]} to {TESTED[-1]}, and this is "
            f"{ultralytics.__version__}. It goes on; if something fails, install ultralytics=={TESTED[-1]}."
        )
