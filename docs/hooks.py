# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the site does beyond Markdown: pages that lie outside docs/, and links that lead there.

Pages are written to be read in the repository, where every relative link leads to a file. Some pages of docs/ only
point to a file elsewhere in the repository; the site shows that file in their place, below the lines of a translation.
Links to source code become text.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # page of the site: file of the repository that stands in its place
    "benchmarks.md": "benchmarks/README.md",
    "families.md": "benchmarks/families.md",
    "any_network.md": "benchmarks/any_network.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
PAGES = {file: page for page, file in OUTSIDE.items()}
TRANSLATED = ".zh.md"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put a file of the repository in a page's place, and turn links between files into links between pages."""
    place = page.file.src_uri
    original = place.replace(TRANSLATED, ".md")
    file = OUTSIDE.get(original, f"docs/{place}")
    if original in OUTSIDE:
        text = (ROOT / file).read_text(encoding="utf-8")
        markdown = text if place == original else markdown + text.partition("\n")[2]
    parts = FENCE.split(markdown)  # odd ones are code
    parts[::2] = [LINK.sub(lambda link: rewrite(link, PurePosixPath(file).parent, place), part) for part in parts[::2]]
    return "".join(parts)


def rewrite(link: re.Match, folder: PurePosixPath, place: str) -> str:
    """Return a link as the site needs it.

    Args:
        link (re.Match): Match of `LINK`.
        folder (PurePosixPath): Where the Markdown file lies in the repository.
        place (str): Its page among the sources of the site.

    Returns:
        (str): The link to a page or picture, or its text alone where the site has none.
    """
    if re.match(r"\w+:", link["target"]):
        return link[0]
    target = os.path.normpath(folder / link["target"]).replace(os.sep, "/")
    page = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else "")
    if not page or page.endswith(".py"):
        return link["text"]
    path = os.path.relpath(page, PurePosixPath(place).parent).replace(os.sep, "/")
    if place.endswith(TRANSLATED) and page == place.replace(TRANSLATED, ".md"):  # i18n's link would lead back here
        up = "../" * len(PurePosixPath(place).parts)
        return f'<a href="{up}{page.removesuffix(".md")}.html">{link["text"]}</a>'
    return f"{link['image']}[{link['text']}]({path}{link['anchor'] or ''})"
