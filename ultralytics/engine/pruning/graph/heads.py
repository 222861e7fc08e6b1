# SPDX-License-Identifier: AGPL-3.0-or-later
"""The heads of Ultralytics: which of their layers put out the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from torch import nn

from ultralytics.cfg.compress.compat.modules import (
    OBB26,
    Depth,
    Pose26,
    Proto26,
    Segment26,
    SemanticSegment,
    YOLOEDetect,
)
from ultralytics.nn.modules.head import OBB, Classify, Detect, Pose, RTDETRDecoder, Segment, WorldDetect, v10Detect

PREDICTIONS = "its outputs are the predictions"


class Ends(NamedTuple):
    """What is known of a head.

    Attributes:
        predictions (list[nn.Module]): Convolutions or linear layers whose outputs must stay.
        fixed (dict[nn.Module, str]): Other layers whose outputs must stay although the network goes on behind them, and
            why.
        observed (bool): They were found by a trace: what leaves the network is all among them, also behind others.
    """

    predictions: list[nn.Module]
    fixed: dict[nn.Module, str] = {}
    observed: bool = False


def find_head(model: nn.Module) -> nn.Module:
    """Return the head of a network: one of Ultralytics or derived from it, or one's own that detects.

    Args:
        model (nn.Module): An Ultralytics model.

    Returns:
        (nn.Module): The head.

    Raises:
        ValueError: If models with such a head cannot be pruned.
    """
    heads = [m for m in model.modules() if isinstance(m, (*UNSUPPORTED, *KINDS))]
    for head in heads:
        for kind, reason in UNSUPPORTED.items():
            if isinstance(head, kind):
                raise ValueError(f"{type(head).__name__} is not supported, because {reason}.")
    last = model.model[-1]
    if isinstance(last, tuple(KINDS)) or is_head(last):
        return last
    if not heads:
        raise ValueError(
            f"{type(model).__name__} ends in none of the heads that can be pruned: "
            f"{', '.join(kind.__name__ for kind in KINDS)}, their subclasses, and detection heads of one's own with "
            f"the attributes {', '.join(READ_BY_LOSSES)}, which {type(last).__name__} lacks."
        )
    return heads[-1]


def is_head(module: nn.Module) -> bool:
    """Return True for what has the attributes that Ultralytics' losses read of a detection head."""
    return all(hasattr(module, name) for name in READ_BY_LOSSES)


def stock_ends(model: nn.Module) -> Ends | None:
    """Return where a network ends, None if its head is one's own, or holds another, of which only a trace can tell.

    Args:
        model (nn.Module): An Ultralytics model.

    Raises:
        ValueError: If models with such a head cannot be pruned.
    """
    head = find_head(model)
    if head is not model.model[-1]:
        return None
    if isinstance(head, Detect):
        return detect_ends(head) if type(head) in DETECTORS else None
    return next((ends(head) for kind, ends in KINDS.items() if isinstance(head, kind)), None)


def needed_cells(head: nn.Module) -> int:
    """Return how many cells a head needs at least, of all feature maps: a decoder chooses its queries among them."""
    return head.num_queries if isinstance(head, RTDETRDecoder) else 1


def branch_ends(lists: Iterable[Iterable[nn.Module] | None]) -> Iterator[nn.Module]:
    """Yield the last convolution of every branch that has one."""
    for branches in lists:
        for branch in branches or ():
            yield from [m for m in branch.modules() if isinstance(m, nn.Conv2d)][-1:]


def detect_ends(head: Detect) -> Ends:
    """Return the ends of every branch of a detection head: boxes, classes, and what its kind adds."""
    lists = {name: child for name, child in head.named_children() if isinstance(child, nn.ModuleList)}
    if isinstance(head, Pose26):  # keypoints and their sigmas are convolutions behind a branch
        for prefix in ("", "one2one_"):
            lists.pop(f"{prefix}cv4", None)
    predictions = list(branch_ends(lists.values()))
    if isinstance(head, Segment):
        last = getattr(head.proto, "cv3", head.proto)  # of a Proto of another kind, its last layer
        predictions += branch_ends([[last]])
        if isinstance(head.proto, Proto26) and head.proto.semseg is not None:
            predictions.append(head.proto.semseg[-1])
    return Ends(predictions)


def semantic_ends(head: nn.Module) -> Ends:
    """Return the ends of the classifier and the auxiliary head."""
    return Ends([part[-1] for part in (head.classifier, head.aux_head) if part is not None])


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
    return Ends([*head.dec_score_head], fixed)


HEAD_MARKS = ("nc", "nl", "no", "reg_max", "nm", "npr", "nk", "ne", "kpt_shape")  # numbers of a detection head
READ_BY_LOSSES = ("nc", "reg_max", "stride")  # of a detection head, by Ultralytics' losses
UNSUPPORTED = {
    YOLOEDetect: "its classes are open: set them and save the model (YOLOE.set_classes), or fix them in memory with "
    "stock_form of ultralytics.nn.conversion.stock_form",
}
DETECTORS = frozenset({Detect, OBB, OBB26, Pose, Pose26, Segment, Segment26, WorldDetect, v10Detect})
KINDS: dict[type, Callable[[nn.Module], Ends]] = {
    Detect: detect_ends,
    Classify: lambda head: Ends([head.linear]),
    SemanticSegment: semantic_ends,
    Depth: lambda head: Ends([head.head[-1]]),
    RTDETRDecoder: decoder_ends,
}
