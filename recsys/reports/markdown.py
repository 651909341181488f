"""A report as Markdown."""

from __future__ import annotations

from recsys.reports.content import ReportContent, View
from recsys.reports.view import Column, Line
from recsys.reports.words import card_lines, headline, standing


def to_markdown(content: ReportContent, view: View) -> str:
    """The figures, the card and the config as one Markdown text; plots are in the HTML page."""
    parts = [
        f"# {_escaped(content.title)}",
        " ".join(filter(None, [headline(view.lines, view.lead), standing(view.lines, view.lead)])),
        main_table(view),
    ]
    if view.second_columns:
        parts += ["## Segments of targets, and beyond accuracy", second_table(view)]
    card = [
        f"- {what}: {_escaped(text)}" for what, text in card_lines(view.table.card, view.num_users)
    ]
    parts += ["## Protocol", "\n".join(card)]
    if content.command:
        parts += ["## Repeat it", f"```\n{content.command}\n```"]
    if content.config_text:
        parts += ["## Config", f"```yaml\n{content.config_text.strip()}\n```"]
    if content.versions:
        versions = [f"- {name}: {text}" for name, text in content.versions.items()]
        parts += ["## Versions", "\n".join(versions)]
    return "\n\n".join(parts) + "\n"


def main_table(view: View) -> str:
    """Accuracy by run and granularity, with half intervals, retention and bytes."""
    header = ["run", "vector", *(column.label for column in view.columns), "keeps", "bytes"]
    rows = [
        [*_lead(line), *(_figure(line, column) for column in view.columns), line.kept, line.size]
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


def _lead(line: Line) -> list[str]:
    return [_escaped(line.run), line.vector]


def _figure(line: Line, column: Column) -> str:
    return " ".join(filter(None, [line.value(column), line.interval(column)]))


def _table(header: list[str], rows: list[list[str]]) -> str:
    marks = ["---" if i < 2 else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, marks, *rows])


def _escaped(text: str) -> str:
    """Text that Markdown neither takes for markup nor for HTML."""
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else f"&{'lg'[mark == '>']}t;")
    return text
