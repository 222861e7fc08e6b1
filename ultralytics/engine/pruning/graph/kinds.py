# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which operations of PyTorch (ATen) treat their values alike, by name."""

from __future__ import annotations

import torch

# operations that put values elsewhere, each with the arguments that are values; those not named have them first
MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "_reshape_alias",
            "_unsafe_view",
            "alias",
            "cat",
            "channel_shuffle",
            "clone",
            "col2im",
            "constant_pad_nd",
            "contiguous",
            "detach",
            "expand",
            "flip",
            "gather",
            "im2col",
            "index",
            "index_select",
            "lift_fresh",
            "native_channel_shuffle",
            "pixel_shuffle",
            "pixel_unshuffle",
            "reflection_pad1d",
            "reflection_pad2d",
            "reflection_pad3d",
            "repeat",
            "repeat_interleave",
            "replication_pad1d",
            "replication_pad2d",
            "replication_pad3d",
            "reshape",
            "roll",
            "rot90",
            "stack",
            "take_along_dim",
            "unsafe_chunk",
            "unsafe_split",
            "unsafe_split_with_sizes",
        ),
        (0,),
    ),
    "index_put": (0, 2),
    "select_scatter": (0, 1),
    "slice_scatter": (0, 1),
    "scatter": (0, 3),
}
SAME = {"_to_copy", "_conj", "bernoulli", "lift"}  # values stay where they are
FORMAT = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}  # of values, not of labels
POINTWISE = {"_prelu_kernel", "hardswish", "native_dropout", "copy", "masked_fill", "fill", "rsub"}  # without the tag
POINTWISE |= {  # older releases of torch do not tag these
    *("celu", "elu", "hardshrink", "hardsigmoid", "hardtanh", "isfinite", "isinf", "leaky_relu", "mish", "relu6"),
    *("rrelu", "selu", "silu", "softplus", "softshrink", "threshold"),
}
SPATIAL = ("adaptive_", "_adaptive_", "avg_pool", "max_pool", "upsample_", "_upsample_", "fractional_max_pool")
REDUCTIONS = {
    *("all", "amax", "amin", "any", "argmax", "argmin", "linalg_vector_norm", "logsumexp", "max", "mean", "median"),
    *("min", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean", "topk"),
}
COUNTING = {"_log_softmax", "_softmax", "amax", "amin", "linalg_vector_norm", "logsumexp", "max", "mean", "min", "prod"}
COUNTING |= {"std", "sum", "var", "var_mean", "std_mean", "norm"}  # over channels in any order
VALUES = {"_local_scalar_dense", "equal", "is_nonzero"}  # of tensors, told as numbers; others ask for sizes and devices
FACTORIES = {f"{kind}_like" for kind in ("empty", "full", "ones", "rand", "randn", "zeros")}
FACTORIES |= {f"new_{kind}" for kind in ("empty", "empty_strided", "full", "ones", "zeros")}
ALONG = {"_log_softmax", "_softmax", "cummax", "cummin", "cumprod", "cumsum", "logcumsumexp", "sort"}


def is_pointwise(func: torch._ops.OpOverload, name: str) -> bool:
    """Return True if any overload of an operation is tagged as one that works element by element."""
    packet = getattr(torch.ops.aten, name, func.overloadpacket)
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())
