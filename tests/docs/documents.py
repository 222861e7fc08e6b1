# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the documents hold: fenced blocks of code, commands, and text without either."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("README*.md", "CONTRIBUTING.md", "benchmarks/*.md", "docs/**/*.md")
DOCUMENTS = sorted(file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in ROOT.glob(folder))
ENGLISH = [name for name in DOCUMENTS if not name.endswith((".zh.md", ".zh-CN.md"))]
TRANSLATIONS = [name for name in DOCUMENTS if name not in ENGLISH]
NOTEBOOK = ROOT / "docs/quickstart.ipynb"
FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<why>.+?) -->\n+)?^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        document (str): File, relative to the root.
        kind (str): Language.
        code (str): Code without the indentation of the block.
        why (str): Why it is not run; empty if it is.
    """

    document: str
    kind: str
    code: str
    why: str


def read(document: str) -> str:
    """Return the text of a document."""
    return (ROOT / document).read_text(encoding="utf-8")


def original_of(translation: str) -> str:
    """Return the English document of a translation."""
    return re.sub(r"\.zh(-CN)?\.md$", ".md", translation)


def find_blocks(document: str) -> list[Block]:
    """List the fenced blocks of a document."""
    blocks = []
    for found in FENCE.finditer(read(document)):
        code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        blocks.append(Block(document, found["kind"], code, found["why"] or ""))
    return blocks


def find_commands(block: Block) -> list[list[str]]:
    """List the commands of a block of shell code, each as its words."""
    lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
    commands = [part for line in lines for part in re.split(r"&&", line)]
    return [words for words in (shlex.split(command, comments=True) for command in commands) if words]


def read_prose(document: str) -> str:
    """Return the text of a document without code, link targets and comments."""
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("", read(document)), flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


def read_notebook() -> list[str]:
    """List the code of the notebook's cells."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
