"""The pages that users read: README and docs, and the blocks of code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCED = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.M | re.S)


def blocks(page, language):
    """The blocks of a page in that language; "" for those that name none, which are commands."""
    return [text for named, text in _FENCED.findall(page.read_text("utf-8")) if named == language]
