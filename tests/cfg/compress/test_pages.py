# SPDX-License-Identifier: AGPL-3.0-or-later
"""Errors of the command line name the page that explains them."""

import pytest
from conftest import ROOT

from ultralytics.cfg import entrypoint
from ultralytics.cfg.compress.keys import DEFAULTS
from ultralytics.cfg.compress.pages import ARGUMENTS, PAGES, TROUBLE, explain


@pytest.mark.parametrize("key", DEFAULTS)
def test_the_page_of_a_key_names_it(key):
    page = explain(ValueError(f"'{key}=x' is an invalid value.")).split("See ")[1].split()[0]
    assert f"`{key}" in (ROOT / page).read_text(encoding="utf-8")


def test_pages_are_of_keys_that_exist():
    assert PAGES.keys() <= DEFAULTS.keys()


@pytest.mark.parametrize(
    ("sentence", "page"),
    [
        ("'speed_up=0.5' is an invalid value.", "docs/targets.md"),
        ("'round_to' must be an int", ARGUMENTS),
        ("'epochs=0' is an invalid value.", TROUBLE),
        ("The folder is in use.", TROUBLE),
    ],
)
def test_a_sentence_leads_to_a_page(sentence, page):
    assert explain(ValueError(sentence)) == f"{sentence}\nSee {page} in the repository of ultralytics-compress."


def test_the_command_line_names_the_page(monkeypatch):
    monkeypatch.setattr("ultralytics.cfg.ARGV", ["yolo", "compress", "model=yolov8n.yaml", "speed_up=0.5"])
    with pytest.raises(SystemExit, match=r"(?s)'speed_up=0.5' is an invalid value.*See docs/targets.md"):
        entrypoint("")
