# SPDX-License-Identifier: AGPL-3.0-or-later
"""A compress run on nodes of one process each, for the entry point that torchrun starts; arguments are JSON."""

import json
import sys
from pathlib import Path

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


def main():
    """Compress with the arguments that the file holds."""
    run = NodeCompressor(overrides=json.loads(Path(sys.argv[1]).read_text()))
    run.compress()
    run.finetune()


if __name__ == "__main__":
    sys.modules["two_nodes"] = sys.modules["__main__"]
    main()
