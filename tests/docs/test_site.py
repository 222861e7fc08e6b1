# SPDX-License-Identifier: AGPL-3.0-or-later
"""The site builds without a warning, and what scripts write, or pages quote from the code, is what they say today."""

import ast
import json
import re
import runpy
import subprocess
import sys

import pytest
from documents import ROOT, find_blocks, read

from ultralytics import YOLO
from ultralytics.cfg.compress.keys import CHOICES, DEFAULTS
from ultralytics.engine.pruning import METHODS, Budget, prune_model, save_pruned
from ultralytics.engine.pruning.report.page import EXPLAINED

DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
LARGEST = 200_000  # bytes of a picture
TROUBLESHOOTING = "docs/troubleshooting.md"
LANGUAGES = (".md", ".zh.md")
OF_ULTRALYTICS = {"is not a valid YOLO argument"}


def run(script):
    """Return what a script of docs/ defines."""
    return runpy.run_path(str(DOCS / script))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="mkdocstrings needs Python 3.10")
def test_site_builds_without_a_warning_and_reads_nothing_from_elsewhere(tmp_path):
    for package in ("material", "mkdocs_static_i18n", "mkdocstrings_handlers.python", "jieba"):
        pytest.importorskip(package, reason="needs the extra 'docs'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "not included in the" not in process.stderr  # every page is in the navigation
    entries = json.loads((tmp_path / "search/search_index.json").read_text(encoding="utf-8"))["docs"]
    assert "剪枝\u200b方法" in {entry["title"] for entry in entries}  # in words
    pages = [file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.html")]
    assert len(pages) > 2 * 20
    loaded = re.compile(r'<(?:script|img|iframe)[^>]+src="?https?:|<link[^>]+rel="?stylesheet"?[^>]+href="?https?:')
    assert [found for page in pages for found in loaded.findall(page)] == []


def test_tables_of_arguments_are_those_of_the_keys():
    script = run("arguments.py")
    for page in script["PAGES"]:
        assert page.read_text(encoding="utf-8") == script["place"](page), "run python docs/arguments.py"
        rows = re.findall(r"^\| `(\w+)` \|.*", script["write_table"](page), re.MULTILINE)
        assert rows == list(DEFAULTS)


@pytest.mark.parametrize("ending", LANGUAGES)
def test_pages_name_every_method_and_budget(ending):
    sources = "arxiv|baseline|基线|1989"
    methods = re.findall(
        rf"^\| `(\w+)` \| [^|]+ \|[^|]*\| .*(?:{sources})", read(f"docs/methods{ending}"), re.MULTILINE
    )
    assert methods == list(METHODS)
    assert {name for name in CHOICES["budget"] if f"`{name}`" not in read(f"docs/targets{ending}")} == set()


def test_pages_that_a_report_names_exist():
    template = read("ultralytics/engine/pruning/report/page.html")
    assert "explained" in template and [file for file in EXPLAINED if not (ROOT / file).is_file()] == []


def list_messages():
    """List the strings of the package, with an ellipsis for what is put into them."""
    messages = []
    for file in (ROOT / "ultralytics").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                messages.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                messages.append(node.value)
    return [" ".join(message.split()) for message in messages]


def test_messages_of_the_troubleshooting_exist():
    messages = list_messages()
    quoted = [" ".join(block.code.split()) for block in find_blocks(TROUBLESHOOTING) if block.kind == "text"]
    assert len(quoted) >= 20
    for quote in quoted:
        parts = [part for part in map(str.strip, quote.split("…")) if len(part) > 2]
        pattern = re.compile(".*".join(map(re.escape, parts)))
        assert quote in OF_ULTRALYTICS or any(map(pattern.search, messages)), quote


@pytest.mark.parametrize("ending", LANGUAGES)
def test_every_heading_of_the_troubleshooting_has_an_answer(ending):
    sections = re.split(r"^### ", read(TROUBLESHOOTING.replace(".md", ending)), flags=re.MULTILINE)[1:]
    assert len(sections) >= 20
    words = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")  # a Chinese character counts as one
    assert [section for section in sections if len(words.findall(section.split("```")[-1])) < 6] == []


def test_diagrams_are_those_of_their_script():
    script = run("pictures/diagrams.py")
    for ending in script["PIPELINE"]:
        assert (PICTURES / f"pipeline{ending}.svg").read_text(encoding="utf-8") == script["draw_pipeline"](
            script["PIPELINE"][ending]
        )
        assert (PICTURES / f"floors{ending}.svg").read_text(encoding="utf-8") == script["draw_floors"](
            script["FLOORS"][ending]
        )


def test_picture_of_accuracy_is_drawn_from_the_benchmarks(tmp_path):
    script = run("pictures/accuracy_latency.py")
    points = script["read_points"]()
    assert points["dense"] == (22.1, 0.169) and points["ours, 2.5x time"] == (8.9, 0.176) and len(points) == 9
    script["draw"](tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_pictures_of_a_cut_are_drawn(best_pt, tiny_data, tmp_path):
    pruned, record = prune_model(YOLO(best_pt).model, Budget(speed_up=2.0), prune_method="lamp")
    save_pruned(tmp_path / "prune.pt", pruned, record)
    models = [best_pt, str(tmp_path / "prune.pt")]
    run("pictures/widths.py")["draw"](*models, tmp_path / "widths.png")
    images = tmp_path.__class__(tiny_data).parent / "images/val"
    run("pictures/predictions.py")["draw"](models, images, tmp_path / "predictions.jpg", 64)
    assert all((tmp_path / name).stat().st_size > 5_000 for name in ("widths.png", "predictions.jpg"))


def test_pictures_are_small_and_used():
    pages = "".join(file.read_text(encoding="utf-8") for file in [ROOT / "README.md", *DOCS.rglob("*.md")])
    pictures = [file for file in PICTURES.iterdir() if file.suffix in {".png", ".jpg", ".svg"}]
    assert [file.name for file in pictures if file.stat().st_size > LARGEST] == []
    assert [file.name for file in pictures if f"pictures/{file.name.replace('.zh.', '.')}" not in pages] == []
