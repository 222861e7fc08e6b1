# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write the table of the compress mode's arguments into its pages: `python docs/arguments.py`.

Names, defaults and descriptions come from the keys' file and choices from the checks, so that the page can tell nothing
else. Descriptions in another language come from a file beside this one.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from ultralytics.cfg.compress.keys import CHOICES, DEFAULTS, KEYS_FILE

DOCS = Path(__file__).resolve().parent
PAGES = {  # page: descriptions in its language, if they are not those of the keys' file
    DOCS / "modes/compress.md": None,
    DOCS / "modes/compress.zh.md": DOCS / "arguments.zh.yaml",
}
BEGIN, END = "<!-- arguments: written by docs/arguments.py -->", "<!-- end of arguments -->"
LINE = re.compile(r"(?P<key>\w+):.*?# \((?P<type>.+?)\) (?P<text>.+)")
HEADING = re.compile(r"# (?P<title>.+?) -{3,}")


def read_words(page: Path) -> dict[str, Any]:
    """Return the words of a page's table: its columns, the parts' headings and the keys' descriptions."""
    file = PAGES[page]
    if file:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    text = KEYS_FILE.read_text(encoding="utf-8")
    return {
        "columns": ["argument", "type", "default", "description"],
        "headings": {found["title"]: found["title"] for found in HEADING.finditer(text)},
        "keys": {found["key"]: found["text"] for found in map(LINE.match, text.splitlines()) if found},
    }


def describe(text: str, key: str) -> str:
    """Return a description, with the names of its choices as code."""
    for choice in CHOICES.get(key, ()):
        text = re.sub(rf"(?<![\w`-]){choice}(?![\w`-])", f"`{choice}`", text)
    return text.replace("|", r"\|")


def write_table(page: Path) -> str:
    """Return a page's table, with a row for every key and a heading for every part of the keys' file."""
    words = read_words(page)
    rows = [f"| {' | '.join(words['columns'])} |", "|---|---|---|---|"]
    for line in KEYS_FILE.read_text(encoding="utf-8").splitlines():
        if heading := HEADING.match(line):
            rows.append(f"| **{words['headings'][heading['title']]}** | | | |")
        elif found := LINE.match(line):
            key = found["key"]
            kind, _, optional = found["type"].partition(", ")
            default = "`None`" if optional else f"`{DEFAULTS[key]}`"
            rows.append(f"| `{key}` | `{kind}` | {default} | {describe(words['keys'][key], key)} |")
    return "\n".join(rows)


def place(page: Path) -> str:
    """Return a page's text with its table between the two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{write_table(page)}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(place(page), encoding="utf-8")
