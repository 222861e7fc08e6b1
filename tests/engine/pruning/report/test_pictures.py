"""Pictures and the figures behind them: written whole, and right after an interruption."""

import itertools

import cv2
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import Interrupted, interrupt
from matplotlib.figure import Figure

from ultralytics.engine.pruning.files import read_csv, write_csv, write_json
from ultralytics.engine.pruning.report.sparsity_plot import append_distribution, plot_sparsity, read_distribution
from ultralytics.engine.pruning.report.style import picture


@pytest.fixture
def sparsity(tmp_path):
    """Files of a sparsity training of three epochs."""
    rows = []
    for epoch in (1, 2, 3):
        append_distribution(tmp_path / "sparsity.csv", epoch, torch.linspace(0, 2 / epoch, 100))
        rows.append({"epoch": epoch, "sparsity/share_small": 0.1 * epoch, "sparsity/reg": 5e-4 / epoch})
    write_csv(tmp_path / "results.csv", rows)
    return tmp_path / "sparsity.csv", tmp_path / "results.csv", "slim", 0.01


def test_sparsity_picture_is_whole_or_as_it_was(sparsity, monkeypatch):
    told = []
    file = plot_sparsity(*sparsity, on_plot=told.append)
    before = file.read_bytes()
    assert cv2.imread(str(file)).std() > 5 and told == [file]

    def stopped(figure, target, **_):
        target.write_bytes(b"half")
        interrupt()

    monkeypatch.setattr(Figure, "savefig", stopped)
    figures = len(plt.get_fignums())
    with pytest.raises(Interrupted):
        plot_sparsity(*sparsity, on_plot=told.append)
    assert file.read_bytes() == before and told == [file]
    assert sorted(p.suffix for p in file.parent.iterdir()) == [".csv", ".csv", ".png"]
    assert len(plt.get_fignums()) == figures


def test_a_picture_that_fails_while_it_is_drawn_leaves_nothing(tmp_path):
    figures = len(plt.get_fignums())
    with pytest.raises(Interrupted), picture(tmp_path / "a.png"):
        interrupt()
    assert not list(tmp_path.iterdir()) and len(plt.get_fignums()) == figures


def test_labels_of_close_points_lie_beside_one_another(tmp_path):
    with picture(tmp_path / "a.png", 1, 2, figsize=(6, 3)) as (figure, axes):
        for axis, offset in zip(axes, [(0, 7), (4, 4)]):
            for i in range(6):
                axis.annotate(f"label {i}", (3 + i / 50, 0.5), xytext=offset, textcoords="offset points")
            axis.annotate("alone", (9, 0.5), xytext=offset, textcoords="offset points")
            axis.set(xlim=(0, 10), ylim=(0, 1))
    for axis in axes:
        labels = [text for text in axis.texts if text.get_text()]
        places = [text.get_window_extent() for text in labels]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(places, 2))
        near = [abs(place.y0 + place.y1 - sum(axis.bbox.intervaly)) / 2 / places[0].height for place in places]
        assert max(near) < 5 and labels[-1].xyann == labels[0].xyann  # one that is alone stays
        assert [text.xy for text in axis.texts if text.arrow_patch] == [text.xy for text in labels[2:6]]


def test_distribution_of_a_resumed_training_has_every_epoch_once(sparsity):
    file = sparsity[0]
    first = read_distribution(file)
    append_distribution(file, 2, torch.zeros(100))  # killed in epoch 3, resumed after epoch 1
    epochs, edges, shares = read_distribution(file)
    assert epochs.tolist() == [1, 2] and (edges == first[1]).all()
    assert shares[1, 0] == 1 and (shares[0] == first[2][0]).all()
    assert [row["epoch"] for row in read_csv(file)] == ["1", "2"]


@pytest.mark.parametrize(("write", "content"), [(write_json, {"a": object()}), (write_csv, [{"a": 1}, {"b": 2}])])
def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, write, content):
    file = tmp_path / "a"
    file.write_text("earlier")
    with pytest.raises((TypeError, ValueError)):
        write(file, content)
    assert file.read_text() == "earlier" and list(tmp_path.iterdir()) == [file]
