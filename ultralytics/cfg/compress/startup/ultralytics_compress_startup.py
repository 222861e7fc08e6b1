# SPDX-License-Identifier: AGPL-3.0-or-later
"""Post-import hook that activates the overlay, whichever way Ultralytics is imported.

Installed at the top of site-packages beside `ultralytics_compress.pth`, whose one line imports it in every interpreter
of the environment. So it imports nothing that an interpreter has not imported already until one of the watched modules
has been executed.
"""

import os.path
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OWN = (  # the overlay's packages; its other modules are all named ultralytics.models. ... .compress
    "ultralytics.cfg.compress",
    "ultralytics.data.shapes",
    "ultralytics.engine.compress",
    "ultralytics.engine.pruning",
    "ultralytics.nn.conversion",
    "ultralytics.nn.extra_modules",
)
ACTIVATION = "ultralytics.cfg.compress.activation"
WATCHED = (
    "ultralytics.cfg",
    "ultralytics.data.utils",
    "ultralytics.nn.tasks",
    "ultralytics.engine.model",
    "ultralytics.models.yolo.detect.train",
    "ultralytics.models.yolo.segment.train",
    "ultralytics.models.yolo.pose.train",
    "ultralytics.models.yolo.obb.train",
    "ultralytics.models.yolo.classify.train",
    "ultralytics.models.yolo.semantic.train",
    "ultralytics.models.yolo.depth.train",
    "ultralytics.models.rtdetr.train",
    "ultralytics.models.yolo.world.train",
)


class ActivationFinder:
    """Meta path finder that lets the finders after it find Ultralytics and hooks the watched modules.

    Attributes:
        failed (bool): The overlay does not go with this Ultralytics, which has been said.
    """

    failed = False

    def find_spec(self, name, path=None, target=None):
        """Return the spec of Ultralytics or, hooked, of a watched module; None for any other."""
        if name != "ultralytics" and name not in WATCHED:
            return None
        # The finders before this one have declined already, and asking only those after it can't recurse.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            # Without a loader it is the overlay's own folder, which hides an Ultralytics checkout installed with
            # `pip install -e`: that one's finder comes last.
            if spec is not None and spec.loader is not None:
                if name in WATCHED:
                    activate_after(spec.loader, name)
                return spec
        return None


class OverlayFinder:
    """Meta path finder of last resort: the overlay's modules, for an Ultralytics that lies in another folder than this.

    It may be the system's below a virtual environment, or a checkout that is imported from where it is.
    """

    def find_spec(self, name, path=None, target=None):
        """Return the spec of a module of the overlay that was not found beside Ultralytics; None for any other."""
        parent = name.rpartition(".")[0]
        is_task = name.startswith("ultralytics.models.") and name.endswith(".compress")
        if not is_task and name not in OWN and parent not in OWN:  # modules further down are found by their package
            return None
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, [os.path.join(HERE, *parent.split("."))])


def activate_after(loader, name):
    """Make a loader activate the overlay each time that it has executed the module `name`.

    The method is replaced on the instance, because a loader of another class would lose what `runpy`, `inspect`,
    `importlib.resources` and `importlib.reload` ask of the real one.
    """
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        if module.__spec__.name == name:  # a zip archive has one loader for all its modules
            activate(name)

    loader.exec_module = exec_module


def activate(name):
    """Activate the overlay for the module `name`, unless this Ultralytics (say, another checkout) has no overlay.

    Whatever goes wrong, the import that brought us here must go on as if we were not installed.
    """
    import importlib

    if ActivationFinder.failed:
        return
    try:
        if has_overlay():
            importlib.import_module(ACTIVATION).apply(name)
    except Exception as error:  # noqa: BLE001 somebody's import of Ultralytics, which our faults must not stop
        if not ActivationFinder.failed:  # looking for the overlay may have imported ultralytics.cfg, which has said it
            ActivationFinder.failed = True
            give_up(error)


def has_overlay():
    """Return True if this Ultralytics has the overlay."""
    import importlib.util

    try:
        return importlib.util.find_spec(ACTIVATION) is not None
    except ModuleNotFoundError as error:
        if error.name not in {"ultralytics.cfg", "ultralytics.cfg.compress"}:  # something that the overlay needs
            raise
        return False


def give_up(error):
    """Undo what has been activated so far and say so, in Ultralytics' log or, should it lack one, as a warning."""
    if activation := sys.modules.get(ACTIVATION):
        activation.give_up(error)
        return
    from importlib.metadata import version

    message = (
        f"ultralytics-compress {version('ultralytics-compress')} is off: it could not be imported beside Ultralytics "
        f"{version('ultralytics')} ({type(error).__name__}: {error}). Ultralytics works as without it."
    )
    try:
        from ultralytics.utils import LOGGER
    except ImportError:
        import warnings

        warnings.warn(message, stacklevel=2)
    else:
        LOGGER.warning(message)


sys.meta_path.insert(0, ActivationFinder())
sys.meta_path.append(OverlayFinder())
