# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a run measures outside of its trainings: with which arguments, in how much memory, and what stays of it."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import Interrupted, interrupt, needs

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.batches import batch_to_measure
from ultralytics.engine.compress.memory import within_memory
from ultralytics.engine.compress.validation import validation_arguments
from ultralytics.models.yolo.detect.compress import DetectionCompressor
from ultralytics.utils import DEFAULT_CFG_DICT

TAYLOR = {"prune_method": "group_taylor", "prune_batches": 2, "name": "m-prune"}


class Watched(DetectionCompressor):
    """Notes its loaders and the models that they are for, without keeping them."""

    def __init__(self, *args, **kwargs):
        self.loaders, self.kept = [], []
        super().__init__(*args, **kwargs)

    def get_dataloader(self, path, batch_size=16, rank=0, mode="train"):
        loader = super().get_dataloader(path, batch_size, rank, mode)
        about = {"path": path, "mode": mode, "batch": batch_size, "cache": loader.dataset.cache}
        self.loaders.append({**about, "drop_last": loader.drop_last})
        self.kept += [weakref.ref(loader), weakref.ref(loader.dataset), weakref.ref(self.model)]
        return loader


class Small(Watched):
    """Has memory for two images in a batch, and says so as CUDA does."""

    def preprocess_batch(self, batch):
        if len(batch["img"]) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().preprocess_batch(batch)


def test_measurements_do_not_copy_the_data_set_into_memory(settings):
    asked = {"cache": True, **({"compile": True} if "compile" in DEFAULT_CFG_DICT else {})}  # newer
    run = Watched(overrides={**settings, **TAYLOR, **asked})
    run._prune(Path(settings["model"]))
    assert [loader["mode"] for loader in run.loaders] == ["train", "train"]  # gradients, batch norms
    assert not any(loader["cache"] or loader["drop_last"] for loader in run.loaders)
    assert asked.items() <= vars(run.args).items()  # for the fine-tuning


def test_gpus_share_the_batch_that_one_of_them_measures():
    for device, images in (("0,1,2,3", 16), ("0", 64), ("", 64), (None, 64), ("cpu", 64)):
        assert batch_to_measure(SimpleNamespace(batch=64, device=device)) == images
    assert batch_to_measure(SimpleNamespace(batch=2, device="0,1,2,3")) == 1


def test_half_the_batch_where_memory_runs_out(log):
    tried = []

    def measure(batch):
        tried.append(batch)
        if batch > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return "figure"

    assert within_memory(measure, 16) == "figure" and tried == [16, 8, 4, 2]
    assert "out of memory with batch=16: measuring with batch=8" in log.text


@pytest.mark.parametrize(("message", "count"), [("MPS backend out of memory", 3), ("shapes do not match", 1)])
def test_what_half_the_batch_does_not_help_is_raised(message, count):
    tried = []

    def measure(batch):
        tried.append(batch)
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        within_memory(measure, 4)
    assert len(tried) == count


def test_run_goes_on_with_half_the_batch(settings, log):
    run = Small(overrides={**settings, **TAYLOR})
    run._prune(Path(settings["model"]))
    assert [loader["batch"] for loader in run.loaders] == [4, 2, 4, 2]
    assert log.text.count("out of memory with batch=4: measuring with batch=2") == 2
    assert load_checkpoint(run.pruned)[0].pruning["reached"] == pytest.approx(2, rel=0.03)


def test_single_image_that_does_not_fit_is_an_error(settings):
    run = Small(overrides={**settings, **TAYLOR, "prune_method": "group_hessian", "batch": 1, "prune_batches": 1})
    run.preprocess_batch = interrupt_memory
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run._prune(Path(settings["model"]))
    assert len(run.loaders) == 1


def interrupt_memory(batch):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_validations_take_the_arguments_of_the_run(settings):
    own = {"split": "train", "conf": 0.1, "iou": 0.3, "nms": False, "agnostic_nms": True, "verbose": False}
    own |= {"classes": [1], "single_cls": True, "max_det": 7, "compile": True, "save_txt": True, "plots": True}
    own = {key: value for key, value in own.items() if key in DEFAULT_CFG_DICT}
    keys = {"prune_method": "lamp", "sensitivity": True, "name": "v-prune"}
    run = Watched(overrides={**settings, **keys, **own, "single_cls": False})
    run.args.single_cls = True  # which a model of two classes is refused with
    seen = []

    def note(validator):
        seen.append(dict(vars(validator.args)))
        raise Interrupted

    run.add_callback("on_val_start", note)
    with pytest.raises(Interrupted):
        run._prune(Path(settings["model"]))
    off = dict.fromkeys(own.keys() & {"compile", "save_txt", "plots"} | {"save_json", "visualize"}, False)
    expected = {**own, **off}
    assert {k: seen[0][k] for k in expected} == expected
    assert run.loaders[0]["path"] == run.data["train"]
    arguments = validation_arguments(run.args)
    assert {k: arguments[k] for k in expected} == expected
    assert own.items() <= vars(run.args).items()


@needs("rows of classes while no box is right")
def test_report_validates_with_the_arguments_of_the_run(settings, log):
    DetectionCompressor(overrides={**settings, "name": "r-prune", "verbose": False}).compress()
    assert "yellow  " not in log.text
    log.clear()
    DetectionCompressor(overrides={**settings, "name": "r-prune"}).compress()
    assert "yellow  " in log.text


def test_nothing_that_was_measured_with_is_kept_while_fine_tuning(settings):
    run = Watched(overrides={**settings, **TAYLOR})
    run.compress()
    assert run.loaders
    alive = []

    def look(trainer):
        gc.collect()
        alive.extend(type(ref()).__name__ for ref in run.kept if ref() is not None)
        raise Interrupted

    run.add_callback("on_pretrain_routine_start", look)
    with pytest.raises(Interrupted):
        run.finetune()
    assert not alive


def test_loader_of_the_sensitivity_map_is_not_kept(settings):
    run = Watched(overrides={**settings, **TAYLOR, "prune_method": "lamp", "sensitivity": True})
    run.add_callback("on_val_end", interrupt)
    with pytest.raises(Interrupted):
        run._prune(Path(settings["model"]))
    gc.collect()
    assert not any(ref() for ref in run.kept)


def test_compressor_does_not_train_the_dense_model(settings, tmp_path):
    run = DetectionCompressor(overrides={**settings, "name": "t-prune"})
    with pytest.raises(TypeError, match=r"DetectionCompressor prunes instead of training: call its .compress\(\)"):
        run.train()
    assert not list(tmp_path.rglob("*.pt"))


def test_refused_run_leaves_no_deterministic_algorithms(tiny_data, settings, tmp_path):
    with pytest.raises(ValueError, match="cannot be reached"):
        DetectionCompressor(overrides={**settings, "name": "d-prune", "speed_up": 500.0}).compress()
    assert not torch.are_deterministic_algorithms_enabled()
    YAML.save(tmp_path / "gone.yaml", {**YAML.load(tiny_data), "val": "images/gone"})
    with pytest.raises((FileNotFoundError, RuntimeError), match="gone"):
        DetectionCompressor(overrides={**settings, "name": "e-prune", "data": str(tmp_path / "gone.yaml")})
    assert not torch.are_deterministic_algorithms_enabled()
    run = DetectionCompressor(overrides={**settings, "name": "f-prune"})
    run.compress()
    run.add_callback("on_pretrain_routine_start", interrupt)
    with pytest.raises(Interrupted):
        run.finetune()
    assert not torch.are_deterministic_algorithms_enabled()
