# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every cut is proved on the model at hand, and one that is wrong names its layer and leaves no checkpoint."""

from copy import deepcopy

import pytest
import torch
from conftest import build_model
from foreign_blocks import BLOCKS
from odd_blocks import AsWideAsItsMap, with_block
from torch import nn

from ultralytics import YOLO
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery import proof
from ultralytics.engine.pruning.surgery.cut import SLICERS, slice_conv
from ultralytics.engine.pruning.surgery.oracle import largest_difference, mask, raw_outputs
from ultralytics.engine.pruning.surgery.proof import WrongCutError, large_image, prove_cut
from ultralytics.nn.modules.conv import Conv


class Counted(Conv):
    """Weighs its channels by how many there are."""

    def forward(self, x):
        y = super().forward(x)
        return y * (y.shape[1] / 100)


class Strict(Conv):
    """Wants the dense width."""

    def forward(self, x):
        y = super().forward(x)
        if y.shape[1] != self.width:
            raise RuntimeError("The size of tensor y is another one")
        return y


class Poisoned(Conv):
    """Puts out NaN at any other than the dense width."""

    def forward(self, x):
        y = super().forward(x)
        return y if y.shape[1] == self.width else y * float("nan")


class Tokens(nn.Module):
    """Normalises as many channels as a small map has pixels."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(c), nn.Linear(c, c)

    def forward(self, x):
        return x + self.fc(self.norm(x.flatten(2).transpose(1, 2))).transpose(1, 2).reshape(x.shape)


def shifted(layer, **index):
    """Slice a layer at the channels beside those that are to be kept."""
    widest = {"out_channels": layer.weight.shape[0]}
    kept = {k: (v + 1) % widest[k] if k in widest and len(v) < widest[k] else v for k, v in index.items()}
    SLICE[type(layer)](layer, **kept)


SLICE = dict(SLICERS)


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """Let no cut be tried again without what is wrong in it."""
    monkeypatch.setattr("ultralytics.engine.pruning.surgery.wrong.RETRIES", 0)


def prune(model):
    """Prune every layer."""
    return prune_model(model, Budget(2, global_pruning=False), prune_method="lamp")


def test_a_layer_that_is_sliced_wrongly_is_named(yolov8n, monkeypatch):
    """Of two wrong layers the first in the order of the forward pass."""
    widths = {(32, 16), (64, 192)}  # of model.1.conv and model.15.cv1.conv

    def slice_some(conv, **index):
        wrong = tuple(conv.weight.shape[:2]) in widths
        (shifted if wrong else slice_conv)(conv, **index)

    monkeypatch.setitem(SLICERS, nn.Conv2d, slice_some)
    with pytest.raises(WrongCutError, match=r"nothing was saved: output '.*' differs by .* is 'model\.1\.conv'\. "):
        prune(yolov8n)


def test_a_batch_norm_that_is_sliced_wrongly_is_seen_by_the_layer_behind(yolov8n, monkeypatch):
    monkeypatch.setitem(SLICERS, nn.BatchNorm2d, shifted)
    with pytest.raises(WrongCutError, match=r"first layer .* is 'model\.1\.conv'"):
        prune(yolov8n)


def test_channels_used_behind_the_graphs_back_are_found(yolov8n):
    model = deepcopy(yolov8n)
    model.model[5].__class__ = Counted
    with pytest.raises(WrongCutError, match=r"is 'model\.6\.cv1\.conv'.* a prunable form"):
        prune(model)


def test_a_pruned_model_that_does_not_run_is_found(yolov8n):
    model = deepcopy(yolov8n)
    model.model[5].__class__ = Strict
    model.model[5].width = model.model[5].conv.out_channels
    with pytest.raises(WrongCutError, match=r"does not run \(The size of tensor .*\)\..* is 'model\.6\.cv1\.conv'"):
        prune(model)


def test_outputs_that_a_cut_makes_nan_are_found(yolov8n):
    """Scores alone, behind boxes that are right."""
    model = deepcopy(yolov8n)
    layer = model.model[-1].cv3[0][0]
    layer.__class__, layer.width = Poisoned, layer.conv.out_channels
    with pytest.raises(WrongCutError, match=r"output 'scores.*' is not finite.* is 'model\.22\.cv3\.0\.1\.conv'"):
        prune(model)


@pytest.mark.parametrize("block", [Tokens(64), AsWideAsItsMap(64)])
def test_a_model_masked_by_nothing_is_the_model(yolov8n, block):
    """Although channels, pixels and columns are as many."""
    model, image = with_block(yolov8n, block).double(), torch.rand(1, 3, 64, 64).double()
    expected, actual = (raw_outputs(m, image) for m in (model, mask(deepcopy(model), {})))
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    pruned, record = prune(model.float())
    assert largest_difference(model, pruned, record, image.float()) < 1e-4


def test_attention_is_proved_as_well(monkeypatch):
    """With the queries' batch norms scaled anew it passes; the positional encoding of other channels does not."""
    model = build_model("yolo12n")
    prune(model)
    name, block = next((k, m) for k, m in model.named_modules() if type(m).__name__ == "AAttn")

    def slice_some(conv, **index):
        wrong = conv.groups > 1 and conv.weight.shape == block.pe.conv.weight.shape
        if wrong:
            conv.weight.data = conv.weight.data.roll(1, 0)
        slice_conv(conv, **index)

    monkeypatch.setitem(SLICERS, nn.Conv2d, slice_some)
    with pytest.raises(WrongCutError, match=rf"is '{name}\.pe\.conv'"):
        prune(model)


def test_a_decoder_is_proved_behind_its_choice():
    """It chooses features by their scores; what lies behind was not compared, as near ties may change places."""
    dense = build_model("yolov8n-rtdetr")
    pruned, record = prune_model(dense, Budget(1.2), prune_method="lamp")
    assert len(record.channels["model.22.decoder.layers.5.linear1"]["out"]) < 1024
    pruned.model[-1].decoder.layers[5].linear2.weight.data.neg_()
    with pytest.raises(WrongCutError, match="'model.22.decoder.layers.5.linear2'"):
        prove_cut(dense, pruned, record.channels)


def test_no_checkpoint_of_a_wrong_cut_is_written(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(SLICERS, nn.BatchNorm2d, shifted)
    with pytest.raises(WrongCutError, match="nothing was saved"):
        YOLO(settings["model"]).compress(**settings, prune_method="lamp", name="wrong")
    assert not list(tmp_path.rglob("*.pt"))


def test_rounding_alone_is_no_fault(yolov8n, monkeypatch):
    """What exceeds the tolerance in FP32 alone passes in FP64."""
    monkeypatch.setattr(proof, "TOLERANCE", 1e-9)
    prune(yolov8n)


def test_a_classifier_is_compared_before_its_softmax():
    model, image = build_model("yolov8n-cls"), torch.rand(1, 3, 64, 64)
    (logits,) = raw_outputs(model, image).values()
    output = model(image)
    torch.testing.assert_close(logits.softmax(1), output[0] if isinstance(output, tuple) else output)
    assert not torch.allclose(logits.sum(), torch.ones(()))


class Placed(nn.Module):
    """Weighs every pixel of maps of one size."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1, c, 8, 8))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize(
    ("block", "place", "size"),
    [
        (nn.Identity(), 2, (512, 768)),
        (BLOCKS["Attended"](64), 4, (256, 512)),
        (BLOCKS["Attended"](32), 2, (64, 160)),
        (BLOCKS["FusedAttention"](32), 2, (64, 160)),
    ],
    ids=["plain", "attention", "early attention", "early fused attention"],
)
def test_a_large_image_is_one_whose_tensors_fit_into_memory(yolov8n, block, place, size):
    """Attention over all pixels of an early layer would take tens of gigabytes."""
    assert large_image(with_block(yolov8n, block, place)).shape == (1, 3, *size)


def test_there_is_no_large_image_for_code_made_for_one_size(yolov8n):
    assert large_image(with_block(yolov8n, Placed(64))) is None


def test_outputs_that_are_not_finite_are_refused(yolov8n):
    """Weights may be finite and their sums not."""
    model = deepcopy(yolov8n)
    model.model[-1].cv3[0][-1].weight.data[0] = 3e38
    with pytest.raises(ValueError, match=r"outputs \((scores|0)\) .* are not finite. Check its weights"):
        prune_model(model, Budget(2.0), prune_method="random")  # whose scores do not depend on weights


def test_the_proof_leaves_everything_as_it_was(yolov8n):
    """Models, hooks and random states; a second proof of the same cut finds the same."""
    pruned, record = prune(yolov8n)
    dense = deepcopy(yolov8n).half().train()
    states = deepcopy(dense.state_dict()), deepcopy(pruned.state_dict())
    drawn = torch.get_rng_state()
    cached = pruned.model[-1].shape
    prove_cut(deepcopy(yolov8n).train(), pruned, record.channels)
    assert torch.equal(torch.get_rng_state(), drawn)
    for model, state in zip((dense, pruned), states):
        assert all(torch.equal(state[k], v) and state[k].dtype == v.dtype for k, v in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert pruned.model[-1].shape == cached and not pruned.training


@pytest.mark.parametrize("alive", [True, False])
def test_constant_and_half_precision_outputs_pass(alive):
    """A network straight from its YAML puts out constants, of which none may count as another."""
    model = build_model("yolov5n") if alive else YOLO("yolov5n.yaml").model
    prune(model.half())
