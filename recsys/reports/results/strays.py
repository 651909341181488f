"""Figures in a text that come out of no results file.

A figure is a number with three or more decimals, or a percentage in a sentence that names a metric.
Marked places may hold figures, and so may what is quoted:

    <!-- published: SOURCE -->.0921<!-- /published -->     a figure of others
    <!-- not-measured -->99 %<!-- /not-measured -->  a number that was chosen or computed

In the comments of a config the same markers stand on lines of their own: `# published: SOURCE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QUOTED = re.compile(
    r"<!-- (results|published|not-measured)\b:?[^>]*? -->.*?<!-- /\1 -->"
    r"|^# (results|published|not-measured)\b:?[^\n]*\n.*?^# /\2$",
    re.S | re.M,
)
_NO_SOURCE = re.compile(r"<!-- published:? *-->|^# published:? *$", re.M)
_DECIMALS = re.compile(r"(?<![\w.,:=/-])-?\d{0,3}\.\d{3,}(?![\w.]*\d)")
_SHARE = re.compile(r"\b\d+(?:\.\d+)? ?%")
_METRIC = re.compile(r"\b(?:recall|ndcg|mrr|hit|map)(?:@\d+)?\b", re.I)
_INTERVAL = re.compile(r"\b95 ?% (?:\w+ )?intervals?|95 ?% percentile")
_SENTENCE = re.compile(r"(?<=[.:;!?|])\s+|\n\s*\n|\n(?=[|#-])")


@dataclass(frozen=True)
class Stray:
    """Figures of a line that come out of no results file."""

    page: Path
    line: int
    """From 1."""
    figures: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.figures}: out of no results file"


def strays(page: Path) -> Iterator[Stray]:
    """Figures of a page that stand outside marked places, in order."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        text = "\n".join(line if line.startswith("#") else "" for line in text.split("\n"))
    for match in _NO_SOURCE.finditer(text):
        yield Stray(page, _line(text, match.start()), f"`{match[0]}` without a source")
    text = _QUOTED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    text = _INTERVAL.sub(lambda match: " " * len(match[0]), text)
    found = [(match.start(), match[0]) for match in _DECIMALS.finditer(text)] + [*_shares(text)]
    lines: dict[int, list[str]] = {}
    for place, figure in sorted(found):
        lines.setdefault(_line(text, place), []).append(figure)
    for line, figures in lines.items():
        yield Stray(page, line, ", ".join(figures))


def _shares(text: str) -> Iterator[tuple[int, str]]:
    """Percentages in sentences that name a metric, with their places."""
    ends = [*(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    start = 0
    for end in ends:
        if _METRIC.search(text, start, end):
            for match in _SHARE.finditer(text, start, end):
                yield match.start(), match[0]
        start = end


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
