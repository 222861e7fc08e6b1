# SPDX-License-Identifier: AGPL-3.0-or-later
"""Where a network ends: the layers whose outputs are predictions, for every kind of head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from torch import nn

from ultralytics.cfg.compress.compat.modules import Depth, Pose26, Proto26, SemanticSegment, YOLOEDetect
from ultralytics.nn.modules.head import Classify, Detect, RTDETRDecoder, Segment

PREDICTIONS = "its outputs are the predictions"


class SideBranch(NamedTuple):
    """Layers that run in training only, which a trace of inference misses.

    Attributes:
        source (nn.Module): Module whose input or output they take.
        take (Callable): Source's positional arguments and output to the branch's input.
        branch (nn.Module): The layers.
    """

    source: nn.Module
    take: Callable
    branch: nn.Module


class Ends(NamedTuple):
    """What is known of a head.

    Attributes:
        predictions (list[nn.Module]): Convolutions or linear layers whose outputs must stay.
        side_branches (list[SideBranch]): Layers of training only.
        anchors (int): Cells of all feature maps that the head needs at least.
        fixed (dict[nn.Module, str]): Other layers whose outputs must stay although the network goes on behind them, and
            why.
    """

    predictions: list[nn.Module]
    side_branches: list[SideBranch] = []
    anchors: int = 1
    fixed: dict[nn.Module, str] = {}


def find_ends(model: nn.Module) -> Ends:
    """Return where a network ends.

    Args:
        model (nn.Module): An Ultralytics model.

    Returns:
        (Ends): Its predictions.

    Raises:
        ValueError: If models with such a head cannot be pruned.
    """
    heads = [m for m in model.modules() if isinstance(m, (*UNSUPPORTED, *ENDS))]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} ends in none of the heads that can be pruned: "
            f"{', '.join(kind.__name__ for kind in ENDS)} and their subclasses."
        )
    for head in heads:
        for kind, reason in UNSUPPORTED.items():
            if isinstance(head, kind):
                raise ValueError(f"{type(head).__name__} is not supported, because {reason}.")
    head = heads[-1]
    return next(ends for kind, ends in ENDS.items() if isinstance(head, kind))(head)


def branch_ends(lists: Iterable[Iterable[nn.Module] | None]) -> Iterator[nn.Module]:
    """Yield the last convolution of every branch that has one."""
    for branches in lists:
        for branch in branches or ():
            yield from [m for m in branch.modules() if isinstance(m, nn.Conv2d)][-1:]


def detect_ends(head: Detect) -> Ends:
    """Return the ends of every branch of a detection head: boxes, classes, and what its kind adds."""
    lists = {name: child for name, child in head.named_children() if isinstance(child, nn.ModuleList)}
    side_branches = []
    if isinstance(head, Pose26):  # keypoints and their sigmas are convolutions behind a branch
        for prefix in ("", "one2one_"):
            features = lists.pop(f"{prefix}cv4", None) or ()
            sigmas = lists.get(f"{prefix}cv4_sigma") or ()
            side_branches += [SideBranch(f, lambda _x, y: y, sigma) for f, sigma in zip(features, sigmas)]
    predictions = list(branch_ends(lists.values()))
    if isinstance(head, Segment):
        last = getattr(head.proto, "cv3", head.proto)  # of a Proto of another kind, its last layer
        predictions += branch_ends([[last]])
        if isinstance(head.proto, Proto26) and head.proto.semseg is not None:
            predictions.append(head.proto.semseg[-1])
            side_branches.append(SideBranch(head.proto.feat_fuse, lambda x, _y: x[0], head.proto.semseg))
    return Ends(predictions, side_branches)


def semantic_ends(head: nn.Module) -> Ends:
    """Return the ends of the classifier and the auxiliary head."""
    if head.aux_head is None:
        return Ends([head.classifier[-1]])
    auxiliary = SideBranch(head, lambda x, _y: x[0][1], head.aux_head)
    return Ends([head.classifier[-1], head.aux_head[-1]], [auxiliary])


def decoder_ends(head: RTDETRDecoder) -> Ends:
    """Return the ends of a decoder, which refines boxes layer by layer, and what has the one width of its queries."""
    boxes = [mlp.layers[-1] for mlp in (head.enc_bbox_head, *head.dec_bbox_head)]
    wide = [*(proj[0] for proj in head.input_proj), head.enc_output[0], head.query_pos_head.layers[-1]]
    looks = [m.cross_attn for m in head.decoder.layers]
    places = [linear for look in looks for linear in (look.sampling_offsets, look.attention_weights)]
    fixed = {
        **dict.fromkeys((head.enc_score_head, *boxes), PREDICTIONS),
        **dict.fromkeys(wide, "it feeds the decoder, whose width is fixed"),
        **dict.fromkeys(places, "its outputs say where the decoder looks"),
    }
    return Ends([*head.dec_score_head], anchors=head.num_queries, fixed=fixed)


UNSUPPORTED = {
    YOLOEDetect: "its classes are open: set them and save the model (YOLOE.set_classes), or fix them in memory with "
    "stock_form of ultralytics.nn.conversion.stock_form",
}
ENDS: dict[type, Callable[[nn.Module], Ends]] = {
    Detect: detect_ends,
    Classify: lambda head: Ends([head.linear]),
    SemanticSegment: semantic_ends,
    Depth: lambda head: Ends([head.head[-1]]),
    RTDETRDecoder: decoder_ends,
}
