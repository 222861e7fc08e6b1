# SPDX-License-Identifier: AGPL-3.0-or-later
"""A compress run on two nodes, for the entry point that torchrun starts; its arguments are in a JSON file."""

import json
import sys
from pathlib import Path

from node_trainers import NodeCompressor

if __name__ == "__main__":
    run = NodeCompressor(overrides=json.loads(Path(sys.argv[1]).read_text()))
    run.compress()
    run.finetune()
