# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency of the blocks of models, measured side by side in PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from ultralytics.engine.pruning.latency.inference import synchronized_time
from ultralytics.engine.pruning.latency.pytorch import as_inference, image_for
from ultralytics.engine.pruning.latency.turns import WARMUP, Timing, take_turns


def block_latency(models: dict[str, nn.Module], imgsz: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Time the top-level blocks of each model in PyTorch, batch 1, FP32, fused, the models taking turns.

    Args:
        models (dict[str, nn.Module]): Name to model; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run.

    Returns:
        (dict[str, dict[str, float]]): Name to block, i.e. '4 C2f', to the 10th percentile of its milliseconds.
    """
    image = image_for(models, imgsz, device)
    fused = as_inference(models, device)
    times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in models}

    def watch(name: str, index: int, block: nn.Module) -> Iterator:
        label = f"{index} {type(block).__name__}"
        begin = [0.0]

        def before(*_) -> None:
            begin[0] = synchronized_time(device)

        def after(*_) -> None:
            times[name][label].append(synchronized_time(device) - begin[0])

        yield block.register_forward_pre_hook(before)
        yield block.register_forward_hook(after)

    for name, model in fused.items():
        for index, block in enumerate(model.model):
            list(watch(name, index, block))
    with torch.no_grad():
        take_turns({name: partial(m, image) for name, m in fused.items()}, device, "Latency of blocks")
    return {name: {label: Timing.of(t[WARMUP:]).low for label, t in blocks.items()} for name, blocks in times.items()}
