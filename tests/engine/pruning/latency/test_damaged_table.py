# SPDX-License-Identifier: AGPL-3.0-or-later
"""A damaged latency table is refused with its name and the remedy, and is left for its owner to look at."""

import json

import pytest
import torch

from ultralytics.engine.pruning.latency.table import LatencyTable

GOOD = json.dumps({"conv": 1.5})
DAMAGED = {
    "empty": b"",
    "truncated": GOOD[:-4].encode(),
    "not JSON": b"hello",
    "not text": b"\xff\xfe\x00{",
    "list": b"[1, 2]",
    "text as a value": b'{"conv": "1.5"}',
    "list as a value": b'{"conv": [1.5]}',
    "bool": b'{"conv": true}',
    "negative": b'{"conv": -1.5}',
    "zero": b'{"conv": 0}',
    "NaN": b'{"conv": NaN}',
    "infinite": b'{"conv": Infinity}',
    "null": b'{"conv": null}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_table_is_refused_and_kept(kind, tmp_path):
    table = LatencyTable("pytorch", torch.device("cpu"), tmp_path)
    table.file.write_bytes(DAMAGED[kind])
    with pytest.raises(ValueError, match=r"the latency table '.*\.json' .*Delete it") as refused:
        LatencyTable("pytorch", torch.device("cpu"), tmp_path)
    assert str(table.file) in str(refused.value)
    assert table.file.read_bytes() == DAMAGED[kind]


def test_table_in_place_of_a_folder_is_refused(tmp_path):
    table = LatencyTable("pytorch", torch.device("cpu"), tmp_path)
    table.file.mkdir()
    with pytest.raises(ValueError, match=r"the latency table '.*\.json' cannot be read"):
        LatencyTable("pytorch", torch.device("cpu"), tmp_path)


def test_whole_table_is_read(tmp_path):
    LatencyTable("pytorch", torch.device("cpu"), tmp_path).file.write_text(GOOD)
    assert LatencyTable("pytorch", torch.device("cpu"), tmp_path).times == {"conv": 1.5}
