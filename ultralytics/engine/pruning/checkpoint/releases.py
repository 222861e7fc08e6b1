# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which releases of Ultralytics a pruned checkpoint loads in, and what to say where it does not."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ultralytics import __version__
from ultralytics.engine.pruning.checkpoint.marks import RECORD
from ultralytics.engine.pruning.checkpoint.names import strings
from ultralytics.nn.modules import block
from ultralytics.nn.modules.head import Detect

# Release: classes whose pruned checkpoints gave equal outputs there and in every later one that was tried, see
# benchmarks/versions.py. 8.0.200, 8.1.47 and 8.2.103 are the oldest that were tried of their series.
RELEASES: dict[str, tuple[str, ...]] = {
    "8.0.200": (
        *("AIFI", "Bottleneck", "C2f", "C3", "C3Ghost", "ClassificationModel", "Classify", "Concat", "Conv", "DFL"),
        *("DWConv", "DeformableTransformerDecoder", "DeformableTransformerDecoderLayer", "Detect", "DetectionModel"),
        *("GhostBottleneck", "GhostConv", "HGBlock", "HGStem", "LightConv", "MLP", "MSDeformAttn", "PoseModel"),
        *("Proto", "RTDETRDecoder", "RTDETRDetectionModel", "RepC3", "RepConv", "SPPF", "SegmentationModel"),
    ),
    "8.1.47": ("ADown", "RepBottleneck", "RepCSP", "RepNCSPELAN4", "ResNetBlock", "ResNetLayer", "SPPELAN"),
    "8.2.103": (
        *("AConv", "Attention", "C2fCIB", "CIB", "ELAN1", "OBB", "OBBModel", "PSA", "Pose", "RepVGGDW", "SCDown"),
        *("Segment", "v10Detect"),
    ),
    "8.3.0": ("C2PSA", "C3k", "C3k2", "PSABlock"),
    "8.3.78": ("A2C2f", "AAttn", "ABlock"),
    "8.4.0": ("OBB26", "Pose26", "Proto26", "RealNVP", "Segment26"),
    "8.4.52": ("SemanticSegment", "SemanticSegmentationModel"),
    "8.4.104": ("Depth", "DepthModel"),
}
SINCE = {name: release for release, names in RELEASES.items() for name in names}


class NeedsNewerUltralyticsError(ModuleNotFoundError):
    """A pruned checkpoint that this Ultralytics cannot load, or would compute something else with."""


class Change(NamedTuple):
    """A class that computes more since some release than it did before.

    Attributes:
        release (str): Release.
        what (str): What is new, for the message.
        is_used (Callable): Layer to whether it uses that.
        is_here (Callable): Returns whether this Ultralytics has it.
    """

    release: str
    what: str
    is_used: Callable[[Any], bool]
    is_here: Callable[[], bool]


CHANGES = (
    Change(
        "8.4.0",
        "a Detect head that predicts one to one",
        lambda m: hasattr(m, "one2one_cv2") and type(m).__name__ != "v10Detect",
        lambda: isinstance(getattr(Detect, "end2end", None), property),
    ),
    Change(
        "8.4.0",
        "an SPPF with a shortcut",
        lambda m: type(m).__name__ == "SPPF" and (getattr(m, "add", False) or getattr(m, "n", 3) != 3),
        lambda: "n" in block.SPPF.__init__.__code__.co_varnames,
    ),
    Change(
        "8.4.34",  # those of version 0.1.0, whose channels were removed apart from each other
        "an AAttn narrower or wider than its input",
        lambda m: type(m).__name__ == "AAttn" and m.qkv.conv.in_channels != m.num_heads * m.head_dim,
        lambda: "__setstate__" in vars(getattr(block, "AAttn", nn.Module)),
    ),
)


def oldest_release(model: nn.Module) -> str:
    """Return the oldest Ultralytics that is known to load a pruned model and to compute the same with it.

    Args:
        model (nn.Module): Pruned model of stock classes.

    Returns:
        (str): Release, i.e. '8.3.0'; empty if it has a class that is not in the table, i.e. somebody's own.
    """
    if not is_known(model):
        return ""
    needed = [SINCE[kind.__name__] for kind in _kinds(model)]
    needed += [change.release for m in model.modules() for change in CHANGES if change.is_used(m)]
    return max(needed, key=_numbers)


def is_known(model: nn.Module) -> bool:
    """Return True if all classes of a model are in the table, False if one is another or somebody's own.

    Args:
        model (nn.Module): Model.
    """
    return all(kind.__module__.startswith("ultralytics.") and kind.__name__ in SINCE for kind in _kinds(model))


def _kinds(model: nn.Module) -> set[type]:
    """Return the classes of a model's modules that are not PyTorch's."""
    return {type(m) for m in model.modules() if not type(m).__module__.startswith("torch.")}


def check_changes(model: nn.Module, file: str | Path) -> None:
    """Refuse a pruned model that loads here but would compute something else.

    Args:
        model (nn.Module): Pruned model.
        file (str | Path): Its checkpoint, for the message.

    Raises:
        NeedsNewerUltralyticsError: If it is one.
    """
    for change in CHANGES:
        if not change.is_here() and any(change.is_used(m) for m in model.modules()):
            raise NeedsNewerUltralyticsError(_sentence(file, change.release, change.what))


def explain_failure(file: str | Path) -> str:
    """Return why a pruned checkpoint cannot be unpickled here, by the classes that it names, without loading it.

    Args:
        file (str | Path): Checkpoint.

    Returns:
        (str): A sentence; empty for a checkpoint that is not pruned, or fails for another reason.
    """
    if not zipfile.is_zipfile(file):
        return ""
    words = set(strings(file))
    named = [word.split(" ", 1) for word in words if word.startswith("ultralytics.nn.") and " " in word]
    missing = {name for module, name in named if name in SINCE and not hasattr(sys.modules.get(module), name)}
    if not missing or not {RECORD, "prune_method"} <= words:
        return ""
    return _sentence(file, max((SINCE[name] for name in missing), key=_numbers), ", ".join(sorted(missing)))


def _sentence(file: str | Path, release: str, what: str) -> str:
    return (
        f"'{file}' is pruned and needs Ultralytics {release} or newer ({what}), and this is {__version__}. Update "
        "Ultralytics, or export the model where it loads."
    )


def _numbers(release: str) -> tuple[int, ...]:
    """Return a release in the order of releases."""
    return tuple(map(int, release.split(".")))
