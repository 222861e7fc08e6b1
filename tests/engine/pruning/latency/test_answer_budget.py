# SPDX-License-Identifier: AGPL-3.0-or-later
"""A budget by the answer of a device: predicted from its table, corrected by its next answer."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import build_model

from ultralytics.engine.compress.device import halved
from ultralytics.engine.pruning.budget.answered import AnswerCost
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.files import write_json
from ultralytics.engine.pruning.latency import bundle as bundles
from ultralytics.engine.pruning.latency.answer import SCHEMA
from ultralytics.engine.pruning.latency.bundle import HALVES
from ultralytics.engine.pruning.latency.formula import WholeTime, fit_whole, time_of_weights
from ultralytics.engine.pruning.latency.shapes import conv_shapes, widths_of
from ultralytics.engine.pruning.latency.table import variants
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.nn.extra_modules.prunable import prunable_copy, to_stock

IMGSZ = 64


def macs(shape):
    """Return the millions of multiply-accumulates of a convolution."""
    area = shape.height * shape.width / (1 if shape.transposed else math.prod(shape.stride))
    return 1e-6 * math.prod(shape.kernel) * shape.outputs * (1 if shape.depthwise else shape.inputs) * area


class Board:
    """A device whose convolutions take a millisecond per million of multiply-accumulates, and its networks longer."""

    def __init__(self, folder, scale=1.0, constant=0.0, each=0.0):
        """Take a folder for its answers, and how networks take longer than their convolutions, and by their weights."""
        self.folder, self.scale, self.constant, self.each = folder, scale, constant, each

    def whole(self, model):
        """Return the milliseconds of a network."""
        shapes = [s for calls in conv_shapes(model, IMGSZ).values() for s in calls]
        return self.constant + self.scale * sum(macs(s) for s in shapes) + self.each * sum(s.weights for s in shapes)

    def answer(self, name, convolutions, predicted, widths=None, **models):
        """Write an answer and return its path."""
        about = {
            "runtime": "ncnn",
            "version": "ncnn-1.0",
            "precision": "fp32",
            "threads": 1,
            "device": {"name": "made up"},
        }
        networks = {n: dict.fromkeys(("low", "median", "high"), self.whole(model)) for n, model in models.items()}
        content = {"schema": SCHEMA, "complete": True, "imgsz": IMGSZ, **about, "networks": networks}
        write_json(
            self.folder / name,
            {**content, "convolutions": convolutions, "predicted": predicted, "widths": widths or {}},
        )
        return str(self.folder / name)

    def first(self, model, **halves):
        """Answer the first bundle of a model."""
        shapes = {s for calls in conv_shapes(to_stock(prunable_copy(model)), IMGSZ).values() for s in calls}
        table = {narrower.key: [macs(narrower)] * 2 for shape in shapes for narrower in variants(shape)}
        widths = {name: widths_of(conv_shapes(half, IMGSZ)) for name, half in halves.items()}
        return self.answer("first.json", table, {}, widths, dense=model, **halves)

    def next(self, bundle, model, pruned):
        """Answer the bundle of a later trip."""
        content = json.loads((bundle / "bundle.json").read_text())
        return self.answer("next.json", content["measured"], content["predicted"], dense=model, pruned=pruned)


@pytest.fixture(scope="module")
def model():
    return build_model("yolov8n")


@pytest.mark.parametrize(("speed_up", "scale"), [(1.5, 1.0), (2.0, 1.7), (3.0, 0.8)])
def test_a_target_is_met_where_networks_take_longer_than_their_convolutions(model, tmp_path, speed_up, scale):
    board = Board(tmp_path, scale)
    pruned, record = prune_model(model, Budget(speed_up, budget=board.first(model), imgsz=IMGSZ), prune_method="lamp")
    measured = board.whole(model) / board.whole(pruned)
    assert measured == pytest.approx(record.reached, rel=1e-3) and speed_up <= measured <= 1.05 * speed_up
    assert record.budget.endswith("first.json") and record.cost["dense"] == pytest.approx(board.whole(model))


def test_milliseconds_are_met(model, tmp_path):
    board = Board(tmp_path)
    target = board.whole(model) / 2.2
    pruned, record = prune_model(
        model, Budget(budget=board.first(model), target=target, imgsz=IMGSZ), prune_method="lamp"
    )
    assert 0.95 * target <= board.whole(pruned) <= target
    assert record.cost["target"] == pytest.approx(target)


def test_the_next_answer_corrects_the_cut(model, tmp_path, monkeypatch, log):
    monkeypatch.setitem(bundles.EXPORTS, "ncnn", lambda model, imgsz, file: file.with_suffix(".param"))
    board = Board(tmp_path, scale=1.2, constant=15.0)
    target, answer, found = board.whole(model) / 1.8, board.first(model), []
    for trip in ("one", "two"):
        pruned, _ = prune_model(model, Budget(budget=answer, target=target, imgsz=IMGSZ), prune_method="lamp")
        found.append(board.whole(pruned))
        bundle = AnswerCost(model, IMGSZ, answer).next_bundle(tmp_path / trip, pruned)
        answer = board.next(bundle, model, pruned)
    assert f"Network of the cut before: {found[0]:.2f} ms, " in log.text
    assert found[0] > 1.1 * target  # time that does not shrink cannot be known before
    assert 0.97 * target <= found[1] <= target
    assert json.loads((bundle / "bundle.json").read_text())["convolutions"] == []  # nothing is measured twice


def test_a_target_below_what_pruning_leaves_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setitem(bundles.EXPORTS, "ncnn", lambda model, imgsz, file: file.with_suffix(".param"))
    board = Board(tmp_path, constant=50.0)
    answer = board.first(model)
    pruned, _ = prune_model(model, Budget(1.5, budget=answer, imgsz=IMGSZ), prune_method="lamp")
    bundle = AnswerCost(model, IMGSZ, answer).next_bundle(tmp_path / "bundle", pruned)
    answer = board.next(bundle, model, pruned)
    with pytest.raises(ValueError, match=r"'speed_up=3.0' cannot be reached.* pruning leaves 5\d\.\d+ at least"):
        prune_model(model, Budget(3.0, budget=answer, imgsz=IMGSZ), prune_method="lamp")


def test_an_answer_of_another_model_or_size_is_refused(model, tmp_path):
    answer = Board(tmp_path).first(build_model("yolov3-tiny", nc=2))
    with pytest.raises(
        ValueError, match=r"was measured for another model: it lacks conv-.* and \d+ more. Make a bundle"
    ):
        prune_model(model, Budget(budget=answer, imgsz=IMGSZ), prune_method="lamp")
    with pytest.raises(
        ValueError, match=r"'imgsz=96' is not the 64 pixels at which 'budget=.*first.json' was measured"
    ):
        prune_model(model, Budget(budget=answer, imgsz=96), prune_method="lamp")
    answer = json.loads((tmp_path / "first.json").read_text())
    write_json(tmp_path / "none.json", {**answer, "networks": {}})
    with pytest.raises(ValueError, match=r"'budget=.*none.json' lacks the dense network"):
        AnswerCost(build_model("yolov3-tiny", nc=2), IMGSZ, str(tmp_path / "none.json"))


def test_the_whole_follows_from_what_was_measured():
    assert fit_whole((10.0, 15.0)) == WholeTime(1.5)
    assert fit_whole((10.0, 15.0), (5.0, 10.0)) == WholeTime(1.0, 5.0)
    assert fit_whole((10.0, 15.0), (5.0, 16.0)) == WholeTime(1.5)  # slower with less to do: noise
    faster = fit_whole((10.0, 15.0), (5.0, 6.0))  # than in proportion
    assert faster.rest == 0 and faster(10.0) == pytest.approx(15.0) and faster(5.0) == pytest.approx(6.0)
    noisy = fit_whole((10.0, 15.0), (5.0, 1.0))
    assert noisy(10.0) == pytest.approx(15.0) and 1.0 < noisy(5.0) < 7.5 and noisy(0.1) > 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"budget": "ncnn", "precision": "int8"},
            "'precision=int8' is invalid with 'budget=ncnn', which has fp32, fp16",
        ),
        ({"budget": "flops", "precision": "fp16"}, "'precision=fp16' is invalid with 'budget=flops'. Leave it out"),
        ({"budget": "flops", "runner": "ssh a"}, "'runner=ssh a' is invalid with 'budget=flops', for which nothing is"),
        ({"budget": "pytorch", "runner": "ssh a"}, "'runner=ssh a' is invalid with 'budget=pytorch'. Another device"),
        ({"budget": "a.json", "runner": "ssh a"}, "'runner=ssh a' is invalid with 'budget=a.json'"),
        ({"budget": "board.txt"}, "'budget=board.txt' is invalid. Valid .* litert, params, size, or the answer.json"),
    ],
)
def test_keys_that_contradict_each_other(keys, message):
    with pytest.raises(ValueError, match=message):
        Budget(**keys)


@pytest.mark.parametrize("each", [0.0, 2e-6])
def test_weights_that_a_network_must_load_cost_time(each):
    convolutions, weights = np.array([10.0, 5.0, 5.2]), np.array([3e6, 1.2e6, 0.6e6])
    whole = 1.5 + 1.1 * (convolutions + each * weights)
    found = time_of_weights([*zip(convolutions, weights, whole)])
    assert found == pytest.approx(each, rel=1e-3, abs=1e-9)
    assert time_of_weights([(10.0, 3e6, 12.0), (5.0, 1e6, 6.0)]) == 0  # two networks do not tell


def test_what_does_not_shrink_is_known_before_the_first_cut(model, tmp_path):
    """The bundle's networks of half the FLOPs show a constant, and what weights cost: no cut has to be corrected."""
    board = Board(tmp_path, scale=1.2, constant=15.0, each=6e-6)
    answer = board.first(model, **{name: halved(model, together, 8) for name, together in HALVES.items()})
    for speed_up, method in ((1.5, "l1"), (1.8, "lamp"), (2.0, "random")):
        pruned, _ = prune_model(model, Budget(speed_up, budget=answer, imgsz=IMGSZ), prune_method=method)
        assert board.whole(model) / board.whole(pruned) == pytest.approx(speed_up, rel=0.05)


def test_halves_of_another_model_are_refused(model, tmp_path):
    other = build_model("yolov3-tiny", nc=2)
    answer = json.loads(Path(Board(tmp_path).first(model)).read_text())
    answer["networks"]["half"] = answer["networks"]["dense"]
    answer["widths"] = {"half": widths_of(conv_shapes(other, IMGSZ))}
    write_json(tmp_path / "mixed.json", answer)
    with pytest.raises(ValueError, match="its networks of half the FLOPs are not of this model. Make a bundle"):
        AnswerCost(model, IMGSZ, str(tmp_path / "mixed.json"))


@pytest.mark.parametrize(("pays", "step"), [(0.5, 1), (0.95, 16), (1.3, 16)])
def test_multiples_that_a_device_likes_are_found_and_kept(model, tmp_path, pays, step):
    """Of a step of 16 channels, its first half costs a made-up share; a target out of their reach breaks them."""

    def stepped(count):
        whole, part = divmod(count, 16)
        return 16 * whole + (16 * pays if part == 8 else part)

    board = Board(tmp_path)
    answer = json.loads(Path(board.first(model)).read_text())
    shapes = {s for calls in conv_shapes(to_stock(prunable_copy(model)), IMGSZ).values() for s in calls}
    for shape in {narrower for whole in shapes for narrower in variants(whole)}:
        share = 1.0 if shape.depthwise else stepped(shape.outputs) / shape.outputs
        answer["convolutions"][shape.key] = [share * ms for ms in answer["convolutions"][shape.key]]
    write_json(tmp_path / "stepped.json", answer)
    cost = AnswerCost(model, IMGSZ, str(tmp_path / "stepped.json"))
    assert cost.step == step
    pruned, _ = prune_model(model, Budget(1.5, str(tmp_path / "stepped.json"), imgsz=IMGSZ), prune_method="lamp")
    left, dense = conv_shapes(pruned, IMGSZ), cost.shapes
    widths = [(a.outputs, b.outputs) for n in dense for a, b in zip(dense[n], left[n]) if a.outputs != b.outputs]
    assert widths and all(now % (step if step > 1 else 8) == 0 for _, now in widths)
    far, _ = prune_model(model, Budget(10.4, str(tmp_path / "stepped.json"), imgsz=IMGSZ), prune_method="lamp")
    assert any(s.outputs % 16 == 8 for calls in conv_shapes(far, IMGSZ).values() for s in calls)
