# SPDX-License-Identifier: AGPL-3.0-or-later
"""The Ray cluster: how it is reached, and what each cell is given of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayTaskError

from ultralytics.engine.compress.grid.job import Grid, Job
from ultralytics.utils import NUM_THREADS


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names or that runs here, else start one until the block ends."""
    if ray.is_initialized():
        yield
        return
    ray.init()
    try:
        yield
    finally:
        ray.shutdown()


def resources(grid: Grid) -> dict[str, float]:
    """Return the CPUs and GPUs that a cell is given.

    CPUs are as many as in Ultralytics' tune, unless a node has fewer for each of the cells that its GPUs take.
    """
    assert grid.cluster is not None
    gpus = grid.cluster.gpus
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU") and str(grid.args.get("device")) != "cpu" else 0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = [int(node.get("CPU", 0)) // max(int(node.get("GPU", 0) / gpus) if gpus else 1, 1) for node in nodes]
    return {"cpu": min([NUM_THREADS, *(max(share, 1) for share in shares)]), "gpu": gpus}


def places(grid: Grid) -> int:
    """Return how many cells the cluster runs at the same time, by what is there now."""
    there, each = ray.cluster_resources(), resources(grid)
    return max(min(int(there.get(name.upper(), 0) / count) for name, count in each.items() if count), 1)


def on_device(grid: Grid, job: Job) -> Job:
    """Return a job with the devices that Ray gives it: one GPU is the worker's default, several are numbered anew."""
    gpus = resources(grid)["gpu"]
    device = list(range(int(gpus))) if gpus > 1 else None if gpus else "cpu"
    return job._replace(args={**job.args, "device": device})


def task(grid: Grid, function: Callable[..., Any]) -> Any:
    """Return a function as a task of Ray, which begins anew if its worker or node is lost."""
    assert grid.cluster is not None
    given = resources(grid)
    return ray.remote(function).options(
        num_cpus=given["cpu"], num_gpus=given["gpu"], max_retries=grid.cluster.max_failures
    )


def collect(references: Sequence[Any]) -> list[Any]:
    """Return the results of tasks; what a task raises is raised here as it was there."""
    try:
        return ray.get(list(references))
    except RayTaskError as error:
        raise error.cause from None
