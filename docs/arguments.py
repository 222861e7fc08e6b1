# SPDX-License-Identifier: AGPL-3.0-or-later
"""Write the table of the compress mode's arguments into its page: `python docs/arguments.py`.

Names, defaults and descriptions come from the keys' file and choices from the checks, so that the page can tell nothing
else.
"""

import re
from pathlib import Path

from ultralytics.cfg.compress.keys import CHOICES, DEFAULTS, KEYS_FILE

PAGE = Path(__file__).resolve().parent / "modes/compress.md"
BEGIN, END = "<!-- arguments: written by docs/arguments.py -->", "<!-- end of arguments -->"
LINE = re.compile(r"(?P<key>\w+):.*?# \((?P<type>.+?)\) (?P<text>.+)")
HEADING = re.compile(r"# (?P<title>.+?) -{3,}")


def describe(text: str, key: str) -> str:
    """Return a description, with the names of its choices as code."""
    for choice in CHOICES.get(key, ()):
        text = re.sub(rf"(?<![\w`-]){choice}(?![\w`-])", f"`{choice}`", text)
    return text.replace("|", r"\|")


def write_table() -> str:
    """Return the table, with a row for every key and a heading for every part of the keys' file."""
    rows = ["| argument | type | default | description |", "|---|---|---|---|"]
    for line in KEYS_FILE.read_text(encoding="utf-8").splitlines():
        if heading := HEADING.match(line):
            rows.append(f"| **{heading['title']}** | | | |")
        elif found := LINE.match(line):
            kind, _, optional = found["type"].partition(", ")
            default = "`None`" if optional else f"`{DEFAULTS[found['key']]}`"
            rows.append(f"| `{found['key']}` | `{kind}` | {default} | {describe(found['text'], found['key'])} |")
    return "\n".join(rows)


def place(text: str) -> str:
    """Return a page's text with the table between the two marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{write_table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(place(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
