# SPDX-License-Identifier: AGPL-3.0-or-later
r"""The entry point of a run on several nodes, which torchrun starts once on each.

    torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m ultralytics.engine.compress.nodes compress model=best.pt data=data.yaml device=0,1,2,3

The first node runs the command, so that a network is pruned, validated and reported on once. Whenever a training
begins, every node starts torchrun with the command that Ultralytics would start on one. Folders of runs, the data set
and Ultralytics' settings lie where all nodes see them at the same path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import psutil
import torch.distributed as dist

from ultralytics.cfg.compress.compat.training import KEEPS_WORLD_SIZE
from ultralytics.engine.compress.across import ENVIRONMENT, FAILED, STAGES, Nodes
from ultralytics.utils import LOGGER

ENDED = "ended"  # key of the store: exit status of the first node's command
OF_TORCHRUN = {f"{whose}{what}" for whose in ("", "LOCAL_", "GROUP_", "ROLE_") for what in ("RANK", "WORLD_SIZE")}
OF_TORCHRUN |= {"ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}  # variables, beside those of TorchElastic
POLL = 0.5  # seconds between two looks at the store


def main(words: Sequence[str]) -> int:
    """Run a command on the first node, and on the others what it asks for.

    Args:
        words (Sequence[str]): The command: a Python script and its arguments, or what follows `yolo`.

    Returns:
        (int): Exit status of the first node's command.

    Raises:
        RuntimeError: If torchrun has not started this process, or this Ultralytics trains on one node alone.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise RuntimeError(
            "this module is for torchrun. Start it on every node, i.e.: torchrun --nnodes 2 --nproc-per-node 1 "
            "--rdzv-backend c10d --rdzv-endpoint HOST:29400 -m ultralytics.engine.compress.nodes compress "
            "model=best.pt data=data.yaml device=0,1"
        )
    if not KEEPS_WORLD_SIZE:
        raise RuntimeError("this Ultralytics trains on one node alone. Update it to train on several.")
    if os.environ["LOCAL_RANK"] != "0":  # one process acts for its node
        return 0
    environment = os.environ
    nodes = Nodes(int(environment["GROUP_WORLD_SIZE"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))
    store, *_ = next(dist.rendezvous("env://"))
    node = int(environment["GROUP_RANK"])
    return follow(store, nodes, node) if node else lead(nodes, words)


def lead(nodes: Nodes, words: Sequence[str]) -> int:
    """Run the command, and end it when a node has failed; return its exit status."""
    store = nodes.store()
    script = words and words[0].endswith(".py")
    command = [sys.executable, *words] if script else [sys.executable, "-c", START, *words]
    process = subprocess.Popen(command, env={**alone(os.environ), ENVIRONMENT: json.dumps(nodes)})
    status = 1
    try:
        while process.poll() is None and not store.check([FAILED]):
            time.sleep(POLL)
        if process.poll() is None:
            LOGGER.error(f"{store.get(FAILED).decode()}: the run ends. Go on with 'resume=True'.")
            end(process)
        else:
            status = process.returncode
    finally:
        store.set(ENDED, str(status))
    return status


def follow(store: dist.Store, nodes: Nodes, node: int) -> int:
    """Start the workers of one training after the other on a node that is not the first."""
    store = nodes.store()
    number = 1
    while not store.check([ENDED]):
        if not store.check([f"{STAGES}/{number}"]):
            time.sleep(POLL)
            continue
        command = json.loads(store.get(f"{STAGES}/{number}"))
        status = subprocess.run([sys.executable, *nodes.command(command, node)[1:]], env=alone(os.environ)).returncode
        if status:
            store.set(FAILED, f"the workers of node {node} have failed with exit status {status}")
            return status
        number += 1
    return int(store.get(ENDED))


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables without those by which torchrun tells a process its place."""
    own = (name for name in environment if name not in OF_TORCHRUN and not name.startswith("TORCHELASTIC_"))
    return {name: environment[name] for name in own}


def end(process: subprocess.Popen) -> None:
    """End a process and all that it has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    for child in children:
        if child.is_running():
            child.terminate()
    process.wait()


START = "from ultralytics.engine.compress.nodes import yolo; yolo()"


def yolo() -> None:
    """Run the `yolo` command of this process, in a drop-in copy too."""
    from ultralytics import cfg
    from ultralytics.cfg.compress.activation import activate

    activate()
    cfg.entrypoint()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
