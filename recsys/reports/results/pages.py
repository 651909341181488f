"""Pages with marked places, which are filled from results files and compared with them.

In Markdown, and in the same words as comments at the head of a config:

    <!-- results:NAME[,NAME ...] [VIEW] [KEY=VALUE ...] -->      # results:NAME [VIEW]
    filled                                                       #   filled
    <!-- /results -->                                            # /results

NAME is results/NAME.json, or NAME? while that file is still to be made; VIEW is one of `views`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import ConfigError, RecsysError
from recsys.reports.results.record import Results, read_results
from recsys.reports.results.views import VIEWS, WAITS

_MARKDOWN = re.compile(r"(<!-- results:(.*?) -->)(.*?)(<!-- /results -->)", re.S)
_COMMENT = re.compile(r"^(# results:(.*?)\n)(.*?)^(# /results)$", re.S | re.M)
_OPENED = re.compile(r"<!-- results:|^# results:", re.M)


def pages_of(root: Path) -> list[Path]:
    """README, docs and configs of a project."""
    return [
        root / "README.md",
        *sorted(root.glob("docs/**/*.md")),
        *sorted(root.glob("configs/*.yaml")),
    ]


def filled(page: Path, folder: Path) -> str:
    """The text of a page with all its marked places made anew.

    Args:
        page: a Markdown page, or a config whose comments have marked places.
        folder: of the results files.

    Raises:
        RecsysError: naming the page and the marker that cannot be filled.
    """
    text = page.read_text(encoding="utf-8")
    in_comments = page.suffix == ".yaml"
    pattern = _COMMENT if in_comments else _MARKDOWN

    def fill(match: re.Match[str]) -> str:
        opening, marker, before, closing = match.groups()
        try:
            made = made_by(marker, folder)
        except RecsysError as error:
            raise ConfigError(f"{page}: results:{marker}: {error}") from error
        inline = not in_comments and "\n" not in before
        return f"{opening}{_laid_out(made, in_comments, inline)}{closing}"

    if len(pattern.findall(text)) != len(_OPENED.findall(text)):
        raise ConfigError(f"{page}: a `results:` marker has no end, or stands in another's place")
    return pattern.sub(fill, text)


def _laid_out(made: str, in_comments: bool, inline: bool) -> str:
    if in_comments:
        return "".join(f"#   {line}".rstrip() + "\n" for line in _plain(made))
    return made if inline else f"\n{made}\n"


def made_by(marker: str, folder: Path) -> str:
    """What a marker asks for: `beauty coordinates metrics=ndcg@10`.

    Values with blanks stand in quotes: `studies widths metric="over separate"`.

    Raises:
        ConfigError: the marker is wrong, a file that it names is (not) there, or the files are of
            one data set in different states.
    """
    try:
        names, *words = shlex.split(marker)
    except ValueError as error:  # a quote is left open
        raise ConfigError(str(error)) from error
    options = dict(word.split("=", 1) for word in words if "=" in word)
    asked = [word for word in words if "=" not in word] or ["table"]
    if len(asked) != 1 or asked[0] not in VIEWS:
        raise ConfigError(f"{' '.join(asked)} is no view; one of {', '.join(VIEWS)} is expected")
    named = dict(_opened(name, folder) for name in names.split(","))
    _check_data(named)
    if asked[0] != "summary" and None in named.values():
        return f"*{WAITS}*"
    return VIEWS[asked[0]](named, options)


def _opened(name: str, folder: Path) -> tuple[str, Results | None]:
    """A name and its results; None for one with `?`, whose file is still to be made."""
    plain, waits = name.removesuffix("?"), name.endswith("?")
    path = folder / f"{plain}.json"
    if waits and path.exists():
        raise ConfigError(f"{path} has been made; take the ? away")
    if not waits and not path.exists():
        raise ConfigError(
            f"there is no {path}; make it with --results, or write {plain}? till then"
        )
    return plain, None if waits else read_results(path)


def _check_data(named: dict[str, Results | None]) -> None:
    """Figures that stand side by side under one name of a data set are of the same rows."""
    known: dict[str, tuple[str, str]] = {}
    for name, results in named.items():
        if results is None or results.data is None:
            continue
        data = results.data
        other, content_hash = known.setdefault(data.name, (name, data.content_hash))
        if content_hash != data.content_hash:
            raise ConfigError(
                f"{other} and {name} are of {data.name} with different content hashes "
                f"({content_hash[:8]}, {data.content_hash[:8]}); make them of one dataset folder"
            )


def _plain(made: str) -> list[str]:
    """A Markdown table as aligned columns; other text as it is."""
    lines = made.splitlines()
    if not all(line.startswith("| ") for line in lines):
        return [line.strip("*") for line in lines if not line.startswith("```")]
    rows = [line.strip("| ").split(" | ") for number, line in enumerate(lines) if number != 1]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Difference:
    """A line of a page that is not what its results file says."""

    page: Path
    line: int
    """From 1."""
    found: str
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.page}:{self.line}: differs from its results file; run `make results`\n"
            f"  stands   {self.found}\n  expected {self.expected}"
        )


def differences(page: Path, folder: Path) -> Iterator[Difference]:
    """The first line of a page, if any, in which it and its results files differ."""
    stands = page.read_text(encoding="utf-8").splitlines()
    expected = filled(page, folder).splitlines()
    longest = max(len(stands), len(expected))
    pairs = zip(_padded(stands, longest), _padded(expected, longest), strict=True)
    for number, (one, other) in enumerate(pairs, start=1):
        if one != other:
            yield Difference(page, number, one, other)
            return


def _padded(lines: list[str], length: int) -> list[str]:
    return lines + [""] * (length - len(lines))
