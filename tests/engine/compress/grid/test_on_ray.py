# SPDX-License-Identifier: AGPL-3.0-or-later
"""A sweep on Ray gives the table that a sweep in turn gives; a cluster of one process per CPU on this machine."""

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ultralytics import YOLO
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.cfg.compress.keys import is_refusal
from ultralytics.engine.compress.search import search
from ultralytics.engine.pruning.budget.solver import OutOfReachError

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytestmark = pytest.mark.slow
MEASURED = "latency"  # columns that no two measurements agree in


@pytest.fixture(scope="module")
def cluster():
    """A local cluster of two CPUs, with a small object store and its files in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets take 107 bytes
    # they import this module's callback, and one that is lost leaves its temporary folder
    workers = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent), "TMPDIR": folder}}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # of the S3 server of a test, which takes any
        os.environ.setdefault(name, "test")
    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "_temp_dir": folder}
    ray.init(num_cpus=2, **small, runtime_env=workers)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # its processes are still ending


def figures(result: dict) -> list[dict]:
    """Return the rows of a table without what is measured or says where files are."""
    return [{k: v for k, v in row.items() if MEASURED not in k and k != "weights"} for row in result["rows"]]


def test_the_table_is_that_of_a_sweep_in_turn(cluster, settings, tmp_path):
    keys = {**settings, "epochs": 1, "plots": True, "speed_up": [1.5, 2], "prune_method": ["lamp", "l1"]}
    in_turn = YOLO(settings["model"]).compress(**keys, name="turn")
    on_ray = YOLO(settings["model"]).compress(**keys, name="ray", use_ray=True)
    assert figures(on_ray) == figures(in_turn)
    assert [row["model"] for row in on_ray["rows"]] == ["dense", "1.5x-lamp", "1.5x-l1", "2x-lamp", "2x-l1"]
    assert on_ray == json.loads((tmp_path / "ray-sweep" / "sweep.json").read_text())
    runs = YAML.load(tmp_path / "ray-sweep" / "runs.yaml")
    assert runs == {name: str(tmp_path / f"ray-{name}-prune") for name in ("2x-lamp", "2x-l1", "1.5x-lamp", "1.5x-l1")}
    assert (tmp_path / "ray-sweep" / "sweep.png").exists() and not list(tmp_path.glob("*/progress.*"))


def test_models_and_seeds_have_the_table_of_a_sweep_in_turn(cluster, settings, other_pt, tmp_path):
    """Each model's first run makes what its others take over, on a worker of its own."""
    keys = {**settings, "epochs": 1, "model": [settings["model"], other_pt], "prune_method": "lamp", "seed": [0, 1]}
    in_turn = YOLO(settings["model"]).compress(**keys, name="turn")
    on_ray = YOLO(settings["model"]).compress(**keys, name="ray", use_ray=True)
    assert figures(on_ray) == figures(in_turn) and len(on_ray["rows"]) == 6
    assert {*YAML.load(tmp_path / "ray-sweep" / "runs.yaml")} == {*YAML.load(tmp_path / "turn-sweep" / "runs.yaml")}


def break_down(folder, trainer):
    """Lose the worker of one run, then make it fail, then leave it alone: a callback."""
    if trainer.save_dir.name != "f-2x-finetune":
        return
    for mark, act in (("lost", lambda: os._exit(1)), ("failed", fail)):
        if not (folder / mark).exists():
            (folder / mark).touch()
            act()


def fail():
    """Stand for a disk that is full."""
    raise OSError("no space left")


def test_a_lost_worker_is_replaced_and_a_failed_run_resumed(cluster, settings, tmp_path):
    keys = {**settings, "epochs": 1, "speed_up": [1.5, 2], "name": "f", "use_ray": True, "max_failures": 1}
    model = YOLO(settings["model"])
    model.add_callback("on_train_epoch_end", functools.partial(break_down, tmp_path))
    with pytest.raises(RuntimeError, match="1 of 2 runs have failed.*'resume=True'.* 2x: .*no space left"):
        model.compress(**keys)
    assert (tmp_path / "lost").exists() and not (tmp_path / "f-sweep" / "sweep.json").exists()
    complete = tmp_path / "f-1.5x-finetune" / "weights" / "best.pt"
    written = complete.stat().st_mtime_ns
    assert len(json.loads((tmp_path / "f-sweep" / "progress.json").read_text())["rows"]) == 2

    result = YOLO(settings["model"]).compress(**keys, resume=True)
    assert [row["model"] for row in result["rows"]] == ["dense", "1.5x", "2x"]
    assert complete.stat().st_mtime_ns == written
    trials = list((tmp_path / "f-sweep" / "ray").glob("*/*/result.json"))
    assert sorted(trial.parent.name for trial in trials) == ["1.5x", "2x"]  # restored, not begun beside the first ones


def lose_twice(folder, trainer):
    """Lose the worker of one run after each of its first epochs, and note every epoch that is trained: a callback."""
    with open(folder / "epochs.log", "a", encoding="utf-8") as log:
        log.write(f"{trainer.save_dir.name} {trainer.epoch + 1}\n")
    mark = folder / f"lost{trainer.epoch}"
    if trainer.save_dir.name == "o-2x-finetune" and trainer.epoch < 2 and trainer.epoch and not mark.exists():
        mark.touch()
        os._exit(1)


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    """The URI of an object store: a folder, or a bucket of a server in this process."""
    if request.param == "file":
        yield f"file://{tmp_path / 'store'}"
        return
    moto, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    keys = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", **keys).create_bucket(Bucket="bucket")
    yield f"s3://bucket/sweeps?scheme=http&endpoint_override=127.0.0.1%3A{port}&region=us-east-1"
    server.stop()


def test_an_object_store_carries_runs_between_nodes_that_share_nothing(cluster, settings, tmp_path, store):
    """Every trial works in a temporary folder: a lost one, and those that need its dense model, have but the store."""
    runs = tmp_path / "runs"
    runs.mkdir()
    keys = {**settings, "model": "yolov8n.yaml", "project": str(runs), "name": "o", "speed_up": [1.5, 2]}
    keys |= {"use_ray": True, "storage_path": store, "max_failures": 1}
    model = YOLO("yolov8n.yaml")
    model.add_callback("on_train_epoch_end", functools.partial(lose_twice, tmp_path))
    result = model.compress(**keys)
    assert [row["model"] for row in result["rows"]] == ["dense", "1.5x", "2x"]
    assert all(Path(row["weights"]).is_relative_to(runs) and Path(row["weights"]).exists() for row in result["rows"])
    assert {folder.name for folder in runs.iterdir()} == {
        *("o-sweep", "o-2x-base", "o-2x-prune", "o-1.5x-prune", "o-2x-finetune", "o-1.5x-finetune")
    }
    epochs = (tmp_path / "epochs.log").read_text().splitlines()
    assert (tmp_path / "lost1").exists() and sorted({*epochs}) == sorted(
        f"o-{run} {epoch}" for run in ("2x-base", "2x-finetune", "1.5x-finetune") for epoch in (1, 2)
    )
    assert [line for line in {*epochs} if epochs.count(line) > 1] == ["o-2x-finetune 2"]  # the one that was lost

    for folder in runs.glob("*-finetune"):
        shutil.rmtree(folder)
    before = len(epochs)
    assert figures(YOLO("yolov8n.yaml").compress(**keys, resume=True)) == figures(result)
    assert len((tmp_path / "epochs.log").read_text().splitlines()) == before  # they came from the store


def test_a_search_finds_on_ray_what_it_finds_in_turn(cluster, settings, tmp_path, monkeypatch):
    """Of models as these nothing is lost up to the largest target; the first two tries are made at the same time."""
    monkeypatch.setattr(search, "CEILING", 3.0)
    del settings["speed_up"]
    keys = {**settings, "prune_method": "lamp", "distill": False, "max_drop": 0.5}
    in_turn = YOLO(settings["model"]).compress(**keys, name="turn")
    on_ray = YOLO(settings["model"]).compress(**keys, name="ray", use_ray=True)
    assert figures(on_ray) == figures(in_turn) and on_ray["met"]
    experiments = [len(list(folder.glob("*/result.json"))) for folder in (tmp_path / "ray-search" / "ray").iterdir()]
    assert 2 in experiments and sum(experiments) >= len(in_turn["rows"]) - 1


def test_a_target_out_of_reach_is_refused_as_in_turn(cluster, settings, tmp_path):
    keys = {**settings, "speed_up": [1.5, 5000], "prune_method": "lamp", "name": "u", "use_ray": True}
    with pytest.raises(OutOfReachError, match="'speed_up=5000.0' cannot be reached") as refused:
        YOLO(settings["model"]).compress(**keys)
    assert is_refusal(refused.value) and not list(tmp_path.glob("*-finetune"))


def test_early_stopping_lets_equals_end(cluster, settings, tmp_path):
    """Of models that detect nothing none is behind; Ultralytics' own callback tells the epochs."""
    keys = {**settings, "epochs": 2, "prune_method": ["lamp", "l1"], "name": "e", "use_ray": True, "grace_period": 1}
    result = YOLO(settings["model"]).compress(**keys)
    assert [row["model"] for row in result["rows"]] == ["dense", "lamp", "l1"]
    (told,) = (tmp_path / "e-sweep" / "ray").glob("*/lamp/result.json")
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert [line["epoch"] for line in lines if "metrics/mAP50-95(B)" in line][:2] == [1, 2]
