# SPDX-License-Identifier: AGPL-3.0-or-later
"""Post-import hook that activates the overlay, whichever way Ultralytics is imported.

Installed at the top of site-packages beside `ultralytics_compress.pth`, whose one line imports it in every interpreter
of the environment. So it imports nothing but `sys` until one of the watched modules has been executed.
"""

import sys

ACTIVATION = "ultralytics.cfg.compress.activation"
WATCHED = (
    "ultralytics.cfg",
    "ultralytics.data.utils",
    "ultralytics.engine.model",
    "ultralytics.models.yolo.model",
    "ultralytics.models.yolo.detect.train",
    "ultralytics.models.yolo.segment.train",
    "ultralytics.models.yolo.pose.train",
    "ultralytics.models.yolo.obb.train",
    "ultralytics.models.yolo.classify.train",
    "ultralytics.models.yolo.semantic.train",
    "ultralytics.models.yolo.depth.train",
    "ultralytics.models.rtdetr.model",
    "ultralytics.models.rtdetr.train",
)


class ActivationFinder:
    """Meta path finder that lets the finders after it find Ultralytics and hooks the watched modules."""

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
    """Activate the overlay for the module `name`, unless this Ultralytics (say, another checkout) has no overlay."""
    import importlib.util

    try:
        has_overlay = importlib.util.find_spec(ACTIVATION) is not None
    except ModuleNotFoundError as error:
        if error.name not in {"ultralytics.cfg", "ultralytics.cfg.compress"}:  # something that the overlay needs
            raise
        return
    if has_overlay:
        importlib.import_module(ACTIVATION).apply(name)


sys.meta_path.insert(0, ActivationFinder())
