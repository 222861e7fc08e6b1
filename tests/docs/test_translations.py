# SPDX-License-Identifier: AGPL-3.0-or-later
"""Every page has its translation, with the same code, parts and figures: what is only changed in English is found."""

import re
import runpy

import pytest
from documents import DOCUMENTS, ENGLISH, FENCE, ROOT, TRANSLATIONS, find_blocks, original_of, read, read_prose
from test_figures import find_decimals

ARGUMENTS = runpy.run_path(str(ROOT / "docs/arguments.py"))
IN_ENGLISH = {"docs/compatibility.md", "docs/reference.md"}  # written by scripts: translations lead there
POINTERS = {name for name in ENGLISH if "the site shows it here" in read(name)}  # to files outside docs/
WHOLE = [name for name in TRANSLATIONS if original_of(name) not in IN_ENGLISH | POINTERS]


def read_code(document):
    """List the blocks of code of a document, without comments."""
    kinds = {"bash", "python", "text"}
    blocks = [block for block in find_blocks(document) if block.kind in kinds]
    return [(block.kind, re.sub(r"#.*", "", block.code).split()) for block in blocks]


def read_parts(document):
    """List the beginnings of what a document is made of: headings, rows of tables, tabs, items of lists, pictures."""
    return re.findall(r"^ *(#+(?= )|\||===|-(?= )|\d+\.(?= )|!\[)", FENCE.sub("", read(document)), re.MULTILINE)


def test_every_page_of_the_docs_has_a_translation():
    missing = [name for name in ENGLISH if name.startswith("docs/") and name.replace(".md", ".zh.md") not in DOCUMENTS]
    assert missing == []
    assert "README.zh-CN.md" in WHOLE and len(WHOLE) >= 15


@pytest.mark.parametrize("document", TRANSLATIONS)
def test_translations_have_an_original(document):
    assert (ROOT / original_of(document)).is_file()


@pytest.mark.parametrize("document", WHOLE)
def test_translations_have_the_same_code(document):
    assert read_code(document) == read_code(original_of(document))


@pytest.mark.parametrize("document", WHOLE)
def test_translations_have_the_same_parts_and_figures(document):
    original = original_of(document)
    assert read_parts(document) == read_parts(original)
    assert set(find_decimals(read_prose(document))) == set(find_decimals(read_prose(original)))


@pytest.mark.parametrize("document", WHOLE)
def test_links_of_translations_lead_to_translations(document):
    linked = re.findall(r"\]\(([^)#:\s]+\.md)", read(document))
    paths = {(ROOT / document).parent.joinpath(link).resolve().relative_to(ROOT).as_posix() for link in linked}
    translated = {original_of(name) for name in TRANSLATIONS} - {original_of(document)}
    assert paths & translated == set()


def test_every_key_and_heading_has_a_description_in_every_language():
    english, *others = [ARGUMENTS["read_words"](page) for page in ARGUMENTS["PAGES"]]
    assert len(others) == 1
    for words in others:
        assert list(words["headings"]) == list(english["headings"])
        assert list(words["keys"]) == list(english["keys"])
        assert all(re.search("[\u4e00-\u9fff]", text) for text in words["keys"].values())
