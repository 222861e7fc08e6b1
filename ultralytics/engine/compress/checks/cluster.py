# SPDX-License-Identifier: AGPL-3.0-or-later
"""Settings of runs on Ray, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import DEFAULTS, check
from ultralytics.utils import SETTINGS
from ultralytics.utils.checks import check_requirements

RAY_KEYS = ("use_ray", "gpu_per_trial", "max_failures", "storage_path", "grace_period")
RAY_PACKAGES = ["ray>=2.41.0", "pandas", "pyarrow", "pydantic"]  # as ray[tune] requires, which names no module
STORES = ("s3", "gs", "abfs", "hdfs", "file")  # of pyarrow
CPU = {"", "None", "cpu"}  # values of 'device' that leave the choice of GPUs to Ray


class Cluster(NamedTuple):
    """How cells run on Ray.

    Attributes:
        gpus (float, optional): GPUs of each cell, or its share of one; None for one if the cluster has any.
        max_failures (int): How often a cell is begun again that was lost or has failed.
        storage (str): Where Ray Tune keeps what `Tuner.restore` needs, and in an object store the runs' folders; '' for
            the grid's folder.
        grace_period (int, optional): Epochs after which cells of the same target may be stopped early.
    """

    gpus: float | None
    max_failures: int
    storage: str
    grace_period: int | None

    @property
    def is_stored(self) -> bool:
        """Return True if Ray's storage carries the folders of runs, which nodes do not share."""
        return "://" in self.storage

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Cluster | None:
        """Return the settings among the arguments of a grid, checked; None if it does not run on Ray.

        Args:
            args (Mapping[str, Any]): Arguments.

        Raises:
            TypeError: If a value is of the wrong type.
            ValueError: If a value is out of range, or two contradict each other.
            ModuleNotFoundError: If Ray is asked for and not installed.
        """
        values = {key: args.get(key, DEFAULTS[key]) for key in RAY_KEYS}
        check(values)
        check_cluster({**args, **values})
        if not values["use_ray"]:
            return None
        storage = str(values["storage_path"] or "")
        if "://" in storage:
            check_storage(storage)
        elif storage:
            storage = os.path.abspath(storage)
        return cls(values["gpu_per_trial"], values["max_failures"], storage, values["grace_period"])


def check_storage(uri: str) -> None:
    """Check that Ray Tune knows such an object store.

    Args:
        uri (str): Value of 'storage_path'.

    Raises:
        ValueError: If it does not.
    """
    if uri.partition("://")[0] not in STORES:
        raise ValueError(
            f"'storage_path={uri}' is an invalid value. 'storage_path' must be a folder or the URI of an object store: "
            f"{', '.join(f'{scheme}://...' for scheme in STORES)}."
        )


def check_cluster(args: Mapping[str, Any]) -> None:
    """Check the settings against each other and against what is installed.

    Args:
        args (Mapping[str, Any]): Arguments, with all of `RAY_KEYS`.

    Raises:
        ValueError: If two contradict each other.
        ModuleNotFoundError: If Ray is asked for and not installed.
    """
    if not args["use_ray"]:
        if idle := next((key for key in RAY_KEYS if args[key] != DEFAULTS[key]), None):
            raise ValueError(f"'{idle}={args[idle]}' is a setting of Ray. Set use_ray=True, or leave {idle} out.")
        return
    if missing := [name for name in RAY_PACKAGES if not check_requirements(name, install=False)]:
        raise ModuleNotFoundError(
            f"'use_ray=True' needs {', '.join(missing)}. Install with: pip install 'ultralytics-compress[ray]'"
        )
    device, gpus = args.get("device"), args["gpu_per_trial"]
    if str(device) not in CPU:
        raise ValueError(
            f"'device={device}' is invalid with use_ray=True: Ray hands out the GPUs. Set how many a run gets, i.e. "
            "gpu_per_trial=1, and leave device out."
        )
    if gpus and str(device) == "cpu":
        raise ValueError(f"'gpu_per_trial={gpus}' contradicts 'device=cpu'. Leave one of them out.")
    if gpus and gpus > 1 and gpus != int(gpus):
        raise ValueError(f"'gpu_per_trial={gpus}' is an invalid value. It must be a whole number, or a share below 1.")
    if (grace := args["grace_period"]) is not None:
        if gpus and gpus > 1:
            raise ValueError(
                f"'grace_period={grace}' is invalid with 'gpu_per_trial={gpus}': a training on several GPUs does not "
                "tell Ray its epochs. Leave grace_period out."
            )
        if not SETTINGS["raytune"]:
            raise ValueError(
                f"'grace_period={grace}' needs Ultralytics' reports to Ray, which its settings turn off. Run 'yolo "
                "settings raytune=True', or leave grace_period out."
            )
