# SPDX-License-Identifier: AGPL-3.0-or-later
"""A sweep on Ray gives the table that a sweep in turn gives; a cluster of one process per CPU on this machine."""

import json
import tempfile

import pytest

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytestmark = pytest.mark.slow
MEASURED = "latency"  # columns that no two measurements agree in


@pytest.fixture(scope="module")
def cluster():
    """A local cluster of two CPUs, with a small object store and its files in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets take 107 bytes
    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, _temp_dir=folder)
    yield
    ray.shutdown()


def figures(result: dict) -> list[dict]:
    """Return the rows of a table without what is measured or says where files are."""
    return [{k: v for k, v in row.items() if MEASURED not in k and k != "weights"} for row in result["rows"]]


def test_the_table_is_that_of_a_sweep_in_turn(cluster, settings, tmp_path):
    keys = {**settings, "epochs": 1, "plots": True, "speed_up": [1.5, 2], "prune_method": ["lamp", "l1"]}
    in_turn = YOLO(settings["model"]).compress(**keys, name="turn")
    on_ray = YOLO(settings["model"]).compress(**keys, name="ray", use_ray=True)
    assert figures(on_ray) == figures(in_turn)
    assert [row["model"] for row in on_ray["rows"]] == ["dense", "1.5x-l1", "1.5x-lamp", "2x-l1", "2x-lamp"]
    assert on_ray == json.loads((tmp_path / "ray-sweep" / "sweep.json").read_text())
    runs = YAML.load(tmp_path / "ray-sweep" / "runs.yaml")
    assert runs == {name: str(tmp_path / f"ray-{name}-prune") for name in ("2x-lamp", "2x-l1", "1.5x-lamp", "1.5x-l1")}
    assert (tmp_path / "ray-sweep" / "sweep.png").exists() and not list(tmp_path.glob("*/progress.*"))
