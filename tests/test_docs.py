# SPDX-License-Identifier: AGPL-3.0-or-later
"""Documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("*.md", "benchmarks/*.md", "docs/**/*.md")
DOCUMENTS = sorted(file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in ROOT.glob(folder))
GONE = {ROOT / "benchmarks/time_ranking.py"}  # named together with the commit that has it


def find_links(document):
    """Return the files that a document links to, relative to the root."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / document).read_text(encoding="utf-8"))
    return [(ROOT / document).parent / target for target in targets if "://" not in target]


def find_paths(document):
    """Return the files and folders of the repository that a document names as code."""
    named = re.findall(r"`([\w./-]+)`", (ROOT / document).read_text(encoding="utf-8"))
    return [ROOT / name for name in named if re.match(r"(ultralytics|tests|benchmarks)/", name)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_lead_somewhere(document):
    paths = {*find_links(document), *find_paths(document)} - GONE
    assert [str(path) for path in paths if not path.exists()] == []


def find_anchors(document):
    """Return the anchors of a document's headings, as a repository's pages and the site make them, and named ones."""
    text = document.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([\w-]+)"></a>', text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_headings(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text)
    files = [(ROOT / document).parent / target if target else ROOT / document for target, _ in links]
    lost = [f"{file}#{anchor}" for file, (_, anchor) in zip(files, links) if anchor not in find_anchors(file)]
    assert lost == []


def test_links_and_paths_are_found():
    assert ROOT / "ultralytics/engine/pruning/ranking/methods.py" in find_paths("CONTRIBUTING.md")
    assert ROOT / "benchmarks/README.md" in find_links("README.md")


def test_the_changelog_begins_with_the_current_version():
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "ultralytics/cfg/compress/__init__.py").read_text(), re.M)[1]
    assert re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1] == version
