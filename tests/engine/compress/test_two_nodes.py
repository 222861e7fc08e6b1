# SPDX-License-Identifier: AGPL-3.0-or-later
"""Two nodes on this machine, each begun by a torchrun of its own: every training runs on both, all else once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ultralytics.cfg.compress.compat.training import KEEPS_WORLD_SIZE
from ultralytics.engine.compress.across import Nodes
from ultralytics.engine.compress.nodes import alone
from ultralytics.utils.dist import find_free_network_port

HERE = Path(__file__).parent


def torchrun(tmp_path, *words: str) -> list[tuple[int, str]]:
    """Return the exit status and the output of both nodes."""
    port = str(find_free_network_port())
    place = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, "--local-addr", "127.0.0.1"]
    command += ["-m", "ultralytics.engine.compress.nodes", *words]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    logs = [tmp_path / f"node{number}.log" for number in range(2)]
    nodes = []
    for file in logs:
        with file.open("w", encoding="utf-8") as log:
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return [(node.wait(500), file.read_text(encoding="utf-8")) for node, file in zip(nodes, logs)]


@pytest.mark.slow
@pytest.mark.skipif(not KEEPS_WORLD_SIZE, reason="needs a newer Ultralytics")
def test_every_training_runs_on_both_nodes_and_all_else_once(settings, tmp_path):
    keys = {"model": "yolov8n.yaml", "prune_method": "slim", "sl_epochs": 1, "epochs": 1, "nbs": 4, "name": "n-prune"}
    keys["dense_epochs"] = 1
    (tmp_path / "keys.json").write_text(json.dumps({**settings, **keys}))
    found = torchrun(tmp_path, str(HERE / "two_nodes.py"), str(tmp_path / "keys.json"))
    assert [status for status, _ in found] == [0, 0], [output[-2000:] for _, output in found]
    for stage in ("base", "dense", "sparsify", "finetune"):
        first, second = (json.loads((tmp_path / f"n-{stage}" / f"rank{rank}.json").read_text()) for rank in range(2))
        assert first == second and first["updates"] == 2  # 8 images, 4 a step
    report = json.loads((tmp_path / "n-finetune" / "report.json").read_text())
    assert list(report["rows"]) == ["dense", "sparse", "pruned", "fine-tuned"]
    assert sum(output.count("Pruned weights:") for _, output in found) == 1


@pytest.mark.slow
@pytest.mark.skipif(not KEEPS_WORLD_SIZE, reason="needs a newer Ultralytics")
def test_a_command_that_is_refused_ends_both_nodes(settings, tmp_path):
    words = (
        f"compress model={settings['model']} data={settings['data']} speed_up=0.5 device=cpu project={tmp_path}/runs"
    )
    found = torchrun(tmp_path, *words.split())
    assert all(status for status, _ in found)
    assert any("'speed_up=0.5' is an invalid value" in output for _, output in found)
    assert not (tmp_path / "runs").exists()


def test_without_torchrun_it_says_how_to_start():
    command = [sys.executable, "-m", "ultralytics.engine.compress.nodes", "compress"]
    result = subprocess.run(command, capture_output=True, text=True, env=alone(os.environ))
    assert result.returncode and "Start it on every node, i.e.: torchrun --nnodes 2" in result.stderr


def test_a_node_gets_the_command_of_one_node_with_its_place():
    stock = ["python", "-m", "torch.distributed.run", "--nproc_per_node", "4", "--master_port", "29", "file.py"]
    command = Nodes(3, "first", 1).command(stock, 2)
    assert command[:3] == stock[:3] and command[-5:] == stock[3:]
    assert command[3:-5] == ["--nnodes", "3", "--node_rank", "2", "--master_addr", "first"]


def test_a_command_does_not_take_torchrun_s_place_for_its_own():
    environment = {
        "RANK": "1",
        "TORCHELASTIC_RUN_ID": "x",
        "MASTER_ADDR": "a",
        "LOCAL_SCRATCH": "/scratch",
        "PATH": "p",
    }
    assert alone(environment) == {"LOCAL_SCRATCH": "/scratch", "PATH": "p"}
