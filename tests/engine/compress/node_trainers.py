# SPDX-License-Identifier: AGPL-3.0-or-later
"""Trainers of two nodes with one process each; a module of its own, which the workers import."""

import gloo_trainers
from gloo_trainers import TwoProcesses

from ultralytics.engine.compress.recovery import training_ended
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune, DetectionSparsifier
from ultralytics.utils import RANK

gloo_trainers.PROCESSES = 1  # of each node


class OnNode(TwoProcesses):
    """Stands before a trainer; this module, and with it the number of processes, is imported by every worker."""

    def final_eval(self):
        """Leave the checkpoints as a training does that has ended; see `TwoProcesses.final_eval`."""
        if RANK == 0:
            training_ended(self.last)


class NodeTrainer(OnNode, DetectionTrainer):
    pass


class NodeFinetune(OnNode, DetectionFinetune):
    pass


class NodeSparsifier(OnNode, DetectionSparsifier):
    pass


class NodeCompressor(DetectionCompressor):
    trainer, finetuner, sparsifier = NodeTrainer, NodeFinetune, NodeSparsifier
