"""A report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recsys.reports.content import ReportContent, View
from recsys.reports.paired.families import METHOD, Family
from recsys.reports.view import Column, Line
from recsys.reports.words import card_lines, headline, paired_lines, standing


def to_markdown(content: ReportContent, view: View, plots: Mapping[str, str]) -> str:
    """The figures, plots, card and config as one Markdown text.

    Args:
        content: texts.
        view: figures.
        plots: address of an image beside the text -> what it shows.
    """
    parts = [
        f"# {_escaped(content.title)}",
        " ".join(filter(None, [headline(view), standing(view)])),
        main_table(view),
        *(f"![{alt}]({address})" for address, alt in plots.items()),
    ]
    if view.families:
        parts += [f"## {view.lead.label}, user by user", _escaped(" ".join(paired_lines(view)))]
        for family in view.families:
            parts += [f"{_escaped(family.title)}:", paired_table(family)]
        parts.append(METHOD)
    if view.second_columns:
        parts += ["## Segments of targets, and beyond accuracy", second_table(view)]
    card = [
        f"- {what}: {_escaped(text)}" for what, text in card_lines(view.table.card, view.num_users)
    ]
    parts += ["## Protocol", "\n".join(card)]
    if content.command:
        parts += ["## Repeat it", _fenced(content.command)]
    if content.config_text:
        parts += ["## Config", _fenced(content.config_text, "yaml")]
    if content.versions:
        versions = [f"- {name}: {_escaped(text)}" for name, text in content.versions.items()]
        parts += ["## Versions", "\n".join(versions)]
    return "\n\n".join(parts) + "\n"


def main_table(view: View) -> str:
    """Accuracy by run and granularity, with half intervals, retention and bytes."""
    header = ["run", "vector", *(column.label for column in view.columns), "keeps", "bytes"]
    rows = [
        [*_lead(line), *(_figure(line, column) for column in view.columns), _kept(line), line.size]
        for line in view.lines
    ]
    return _table(header, rows)


def second_table(view: View) -> str:
    """Segments and beyond accuracy."""
    header = ["run", "vector", *(column.label for column in view.second_columns)]
    rows = [
        [*_lead(line), *(line.value(column) for column in view.second_columns)]
        for line in view.lines
    ]
    return _table(header, rows)


def paired_table(family: Family) -> str:
    """Differences, intervals, p-values, and what they say."""
    header = ["vector", "difference", "95 % interval", "p", "corrected", "says"]
    rows = [
        [
            _escaped(each.vector),
            f"{each.paired.difference:+.4f}",
            each.interval,
            _escaped(each.raw),
            _escaped(each.corrected),
            each.says,
        ]
        for each in family.comparisons
    ]
    return _table(header, rows)


def _lead(line: Line) -> list[str]:
    return [_escaped(line.run), line.vector]


def _figure(line: Line, column: Column) -> str:
    return " ".join(filter(None, [line.value(column), line.interval(column)]))


def _kept(line: Line) -> str:
    return " ".join(filter(None, [line.kept, line.kept_half]))


def _table(header: list[str], rows: list[list[str]]) -> str:
    marks = ["---" if i < 2 else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, marks, *rows])


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _escaped(text: str) -> str:
    """Text that Markdown neither takes for markup nor for HTML."""
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else f"&{'lg'[mark == '>']}t;")
    return text
