"""The shapes data set draws itself: complete, well labelled and the same every time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ultralytics.data.utils import check_det_dataset

SHAPES_YAML = Path(__file__).parents[3] / "ultralytics/cfg/datasets/shapes.yaml"
COUNTS = {"train": 200, "val": 50}


def draw_shapes(folder):
    """Have Ultralytics draw the set below this folder and return its data dictionary."""
    text = SHAPES_YAML.read_text(encoding="utf-8")
    assert "\npath: shapes " in text
    copy = folder / "shapes.yaml"
    copy.write_text(text.replace("\npath: shapes ", f"\npath: {(folder / 'shapes').as_posix()} "), encoding="utf-8")
    return check_det_dataset(copy)


def read_labels(data, split):
    """One array of (class, x, y, width, height) rows for each picture of a split."""
    files = sorted((data["path"] / "labels" / split).glob("*.txt"))
    return [np.loadtxt(file, ndmin=2) for file in files]


def file_hashes(root, pattern):
    """Path relative to root → SHA-256 of every matching file."""
    files = sorted(root.rglob(pattern))
    assert files, f"no {pattern} in {root}"
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The set, drawn once for this module."""
    return draw_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize("split", COUNTS)
def test_every_picture_has_a_label_file(data, split):
    """As many pictures as promised, each with labels of its own."""
    pictures = {file.stem for file in Path(data[split]).glob("*.png")}
    labels = {file.stem for file in (data["path"] / "labels" / split).glob("*.txt")}
    assert len(pictures) == COUNTS[split]
    assert labels == pictures


@pytest.mark.parametrize("split", COUNTS)
def test_labels_are_valid(data, split):
    """Every box has a size, lies inside its picture and has a known class; no class is missing from a split."""
    labels = read_labels(data, split)
    assert all(len(rows) for rows in labels)
    rows = np.concatenate(labels)
    centres, sizes = rows[:, 1:3], rows[:, 3:5]
    assert (sizes > 0).all()
    assert (centres - sizes / 2 >= -1e-6).all() and (centres + sizes / 2 <= 1 + 1e-6).all()
    assert set(rows[:, 0]) == set(data["names"])


def test_classes_are_balanced(data):
    """No class makes up less than half or more than twice its share."""
    counts = np.bincount(np.concatenate(read_labels(data, "train"))[:, 0].astype(int))
    assert (counts > counts.mean() / 2).all() and (counts < counts.mean() * 2).all()


def test_drawing_again_gives_the_same_files(data, tmp_path):
    """Two drawings agree in every byte of pictures and labels."""
    again = draw_shapes(tmp_path)
    for pattern in "*.png", "*.txt":
        assert file_hashes(again["path"], pattern) == file_hashes(data["path"], pattern)


def test_no_picture_is_drawn_twice(data):
    """Training and validation share no picture, and neither repeats one."""
    assert len(set(file_hashes(data["path"], "*.png").values())) == sum(COUNTS.values())
