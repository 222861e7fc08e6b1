# SPDX-License-Identifier: AGPL-3.0-or-later
"""Trainers of two processes on the CPU, for Ultralytics' own DDP file, which takes accelerators alone."""

import hashlib
import json

import torch
import torch.distributed as dist
from torch import nn

from ultralytics.cfg.compress.compat.devices import unwrap_model
from ultralytics.engine.compress.lesson import Unread
from ultralytics.models.yolo.detect.compress import DetectionFinetune, DetectionSparsifier
from ultralytics.utils import LOCAL_RANK, RANK

PROCESSES = 2


class OnCpu(nn.parallel.DistributedDataParallel):
    """Takes no device ids, of which a CPU has none."""

    def __init__(self, module, device_ids, **kwargs):
        super().__init__(module, **kwargs)


class TwoProcesses:
    """Stands before a trainer; every worker leaves what it has come to in a file."""

    def __setattr__(self, name, value):
        """Keep what Ultralytics derives from the number of accelerators."""
        own = {"world_size": PROCESSES, "ddp": LOCAL_RANK == -1}
        super().__setattr__(name, own.get(name, value))

    def _setup_ddp(self):
        nn.parallel.DistributedDataParallel = OnCpu  # of this process, which is a worker
        dist.init_process_group("gloo", rank=RANK, world_size=self.world_size)

    def final_eval(self):
        """Validate no more: on its own, Ultralytics' validator looks for a worker's device among accelerators alone."""

    def _do_train(self):
        super()._do_train()
        found = {"weights": fingerprint(unwrap_model(self.model)), "ema": fingerprint(self.ema.ema)}
        if teacher := getattr(unwrap_model(self.model), "teacher_model", None):
            found |= {"left out": sum(isinstance(module, Unread) for module in teacher.modules())}
        if regulariser := getattr(self, "regulariser", None):
            found |= {"units": len(regulariser.units), "doomed": doomed_of(regulariser)}
        (self.save_dir / f"rank{RANK}.json").write_text(json.dumps({**found, "updates": self.ema.updates}))


class TwoFinetune(TwoProcesses, DetectionFinetune):
    pass


class TwoSparsifier(TwoProcesses, DetectionSparsifier):
    pass


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights; statistics of batch norms are each process's own, as with the stock trainer."""
    return hashlib.sha256(b"".join(p.detach().float().numpy().tobytes() for p in model.parameters())).hexdigest()


def doomed_of(regulariser) -> list[int] | None:
    """Return the units that a target removes."""
    return None if regulariser.doomed is None else torch.nonzero(regulariser.doomed).flatten().tolist()
