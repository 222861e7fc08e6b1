# SPDX-License-Identifier: AGPL-3.0-or-later
"""Latency of models, measured side by side."""

from __future__ import annotations

import statistics
from copy import deepcopy

import torch
from torch import nn

from ultralytics.utils import TQDM
from ultralytics.utils.torch_utils import time_sync


def measure_latency(
    models: dict[str, nn.Module], imgsz: int, device: torch.device, repeats: int = 30, warmup: int = 5
) -> dict[str, float]:
    """Return the median time of a forward pass of each model, batch 1, FP32, fused as for inference.

    The models take turns, so that a drift of the machine's speed meets all of them alike.

    Args:
        models (dict[str, nn.Module]): Name to model; copies are timed.
        imgsz (int): Image size in pixels.
        device (torch.device): Where to run.
        repeats (int): Timed rounds.
        warmup (int): Rounds before them that do not count.

    Returns:
        (dict[str, float]): Name to milliseconds.
    """
    ready = {name: deepcopy(m).to(device).float().eval().fuse(verbose=False) for name, m in models.items()}
    channels = next(iter(models.values())).yaml.get("channels", 3)
    image = torch.rand(1, channels, imgsz, imgsz, device=device)
    times: dict[str, list[float]] = {name: [] for name in ready}
    with torch.no_grad():
        for i in TQDM(range(warmup + repeats), desc="Latency"):
            for name, model in ready.items():
                start = time_sync(device)
                model(image)
                if i >= warmup:
                    times[name].append(time_sync(device) - start)
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}
