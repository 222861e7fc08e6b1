# SPDX-License-Identifier: AGPL-3.0-or-later
"""A training on the GPUs of several nodes: what Ultralytics derives from one node's devices, for all of them.

Ultralytics starts the workers of a distributed training by torchrun, on one node. Here the same command is given to
every node, with its place among them, see `ultralytics.engine.compress.nodes`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch.distributed as dist

from ultralytics.engine import trainer as trainer_module
from ultralytics.engine.compress.stock import StockTrainer
from ultralytics.utils import LOCAL_RANK

ENVIRONMENT = "ULTRALYTICS_COMPRESS_NODES"  # of the process that runs the stages, and of its children
STAGES = "stages"  # key of the store: how many trainings have begun
FAILED = "failed"  # key of the store: why a node has failed


class Nodes(NamedTuple):
    """The nodes of a run.

    Attributes:
        total (int): How many there are.
        address (str): Host name or address of the first one.
        port (int): Port of torchrun's store there.
    """

    total: int
    address: str
    port: int

    @classmethod
    def here(cls) -> Nodes | None:
        """Return the nodes of the run that this process belongs to, None for a run on one node."""
        return cls(*json.loads(os.environ[ENVIRONMENT])) if ENVIRONMENT in os.environ else None

    def store(self) -> dist.Store:
        """Return torchrun's store, by which the nodes hear of each other."""
        return dist.TCPStore(self.address, self.port, is_master=False)

    def command(self, stock: list[str], node: int) -> list[str]:
        """Return Ultralytics' command for the workers of one node, as that of a node among several.

        Args:
            stock (list[str]): Command that begins torchrun.
            node (int): Number of the node, from 0.
        """
        place = stock.index("torch.distributed.run") + 1
        among = ["--nnodes", str(self.total), "--node_rank", str(node), "--master_addr", self.address]
        return [*stock[:place], *among, *stock[place:]]


class AcrossNodes(StockTrainer):
    """Trains on all nodes of a run; stands before a stock trainer among the bases of a class.

    Attributes:
        world_size (int): Processes of the training: in a worker those of all nodes, in the process that starts the
            workers those of one.
        ddp (bool): This process starts workers, for a single GPU too where there are several nodes.
    """

    _world_size: int
    _ddp: bool

    @property
    def world_size(self) -> int:
        return self._world_size

    @world_size.setter
    def world_size(self, of_one_node: int) -> None:
        in_worker = of_one_node and LOCAL_RANK != -1
        self._world_size = int(os.environ["WORLD_SIZE"]) if in_worker else of_one_node

    @property
    def ddp(self) -> bool:
        return self._ddp

    @ddp.setter
    def ddp(self, by_devices: bool) -> None:
        on_gpu = self.device.type not in {"cpu", "mps"}
        self._ddp = by_devices or (on_gpu and LOCAL_RANK == -1 and Nodes.here() is not None)

    def train(self) -> None:
        """Train as the stock trainer does, which starts workers on every node of the run."""
        nodes = Nodes.here()
        with launched_on(nodes) if nodes and self.ddp else nullcontext():
            super().train()


def across_nodes(trainer: type) -> type:
    """Return a stock trainer that trains on all nodes of the run that this process belongs to."""
    return type(trainer.__name__, (AcrossNodes, trainer), {}) if Nodes.here() else trainer


@contextmanager
def launched_on(nodes: Nodes) -> Iterator[None]:
    """Until the block ends, give every node the command by which Ultralytics starts the workers of a training.

    Args:
        nodes (Nodes): Nodes of the run, of which this process is on the first one.
    """
    stock = trainer_module.generate_ddp_command
    store = nodes.store()

    def generate(*args):
        command, file = stock(*args)
        store.set(f"{STAGES}/{store.add(STAGES, 1)}", json.dumps(command))
        return nodes.command(command, 0), file

    trainer_module.generate_ddp_command = generate
    try:
        yield
    finally:
        trainer_module.generate_ddp_command = stock
