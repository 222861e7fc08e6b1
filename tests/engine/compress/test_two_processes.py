# SPDX-License-Identifier: AGPL-3.0-or-later
"""Two real processes, started by Ultralytics' own DDP file: both end with the same weights."""

import json
from importlib.util import find_spec

import pytest
import torch
from conftest import needs
from gloo_trainers import TwoFinetune, TwoSparsifier, doomed_of

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.cfg.compress.compat.keys import HAS_DISTILLATION
from ultralytics.engine.compress.sparsifier import build_regulariser, load_doomed
from ultralytics.engine.pruning import prune_model, save_pruned
from ultralytics.utils.patches import torch_load

pytestmark = pytest.mark.slow


def results(trainer) -> list[dict]:
    """Train, and return what each process has come to."""
    trainer.train()
    return [json.loads((trainer.save_dir / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_finetuning(settings, tmp_path):
    dense = load_checkpoint(settings["model"])[0]
    save_pruned(tmp_path / "prune.pt", *prune_model(dense, prune_method="lamp"))
    keys = {"model": str(tmp_path / "prune.pt"), "distill_model": settings["model"], "name": "f"}
    first, second = results(TwoFinetune(overrides={**settings, **keys}))
    assert first == second and first["updates"] == 4  # two batches an epoch, a step after each
    assert first.get("left out") == (3 if HAS_DISTILLATION else None)  # boxes, on three levels


@needs("quantization-aware training")
@pytest.mark.skipif(
    not (find_spec("modelopt") and find_spec("huggingface_hub")), reason="nvidia-modelopt is not installed"
)
def test_quantization_aware_finetuning(settings, tmp_path):
    """The ranges of activations are calibrated before the training; both processes quantise and train alike."""
    dense = load_checkpoint(settings["model"])[0]
    save_pruned(tmp_path / "prune.pt", *prune_model(dense, prune_method="lamp"))
    keys = {"model": str(tmp_path / "prune.pt"), "quantize": 8, "distill": False, "name": "q"}
    trainer = TwoFinetune(overrides={**settings, **keys})
    first, second = results(trainer)
    assert first == second and first["updates"] == 4
    assert torch_load(trainer.last, map_location="cpu")["modelopt"]["ranges"]


@pytest.mark.parametrize("method", ["slim", "growing_reg"])
def test_sparsity_training(settings, method):
    keys = {"prune_method": method, "reg": 0.5, "delta_reg": 0.1, "nbs": 4, "name": "s"}
    trainer = TwoSparsifier(overrides={**settings, **keys})
    first, second = results(trainer)
    assert first == second and first["updates"] == 4
    chosen = trainer.save_dir / "doomed.pt"  # by the first process, for all
    doomed = load_doomed(chosen, torch.device("cpu")) if method == "growing_reg" else None
    alone = build_regulariser(load_checkpoint(settings["model"])[0].float(), trainer.all_args, doomed)
    assert first["units"] == len(alone.units) and first["doomed"] == doomed_of(alone)
