# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every measured number of the documents stands in a file of benchmarks/."""

import re

import pytest
from documents import DOCUMENTS, ROOT, read, read_prose

BENCHMARKS = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "benchmarks").glob("*.md"))]
LINES = [re.sub(r"`[^`]*`", "", line) for text in BENCHMARKS for line in text.splitlines()]
PAGES = [name for name in DOCUMENTS if not name.startswith(("benchmarks/", "CONTRIBUTING"))]
PAGES = [name for name in PAGES if not name.startswith(("docs/compatibility", "docs/installing"))]  # have their own
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\d)")
OF_RELEASES = re.compile(r"(Python|PyTorch|torch|Ultralytics|torch-pruning|OpenVINO|schema)\s*(\d+\.\d+(\.\d+)?)")


def find_decimals(text):
    """List the numbers with a decimal point in a text, in their order."""
    return DECIMAL.findall(OF_RELEASES.sub("", re.sub(r"\d+\.\d{4,5}\b|\d+(\.\d+){2,}", "", text)))


def rows_of(page):
    """List the numbers of every row of a page's tables."""
    lines = [line for line in read_prose(page).splitlines() if line.lstrip().startswith("|")]
    return [row for row in map(find_decimals, lines) if len(row) > 1]


def is_part(row, line):
    """Return True for numbers that stand in a line, in the same order."""
    rest = iter(find_decimals(line))
    return all(number in rest for number in row)


@pytest.mark.parametrize("page", PAGES)
def test_numbers_stand_in_the_benchmarks(page):
    known = {number for line in LINES for number in find_decimals(line)}
    assert sorted(set(find_decimals(read_prose(page))) - known) == []


@pytest.mark.parametrize("page", PAGES)
def test_rows_of_tables_are_rows_of_the_benchmarks(page):
    assert [row for row in rows_of(page) if not any(is_part(row, line) for line in LINES)] == []


def test_numbers_and_rows_are_found():
    assert ["0.602", "0.593", "0.580"] in rows_of("README.md")
    assert {"0.585", "1.6"} <= set(find_decimals(read_prose("README.md")))
    assert find_decimals("2.5 ms, 8.4.190, Python 3.10, Ultralytics 8.3.0, 2301.12900, 3x") == ["2.5"]
    assert not is_part(["0.1", "0.2"], "| 0.2 | 0.1 |") and is_part(["0.1", "0.2"], "| 0.1 | 0.3 | 0.2 |")


def test_the_readme_is_short():
    for page in ("README.md", "README.zh-CN.md"):
        assert len(read(page).splitlines()) <= 120
