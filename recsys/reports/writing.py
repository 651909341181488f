"""Puts a report on disk: HTML, Markdown and CSV, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from recsys.files import write_text
from recsys.reports.content import ReportContent, View
from recsys.reports.html import to_html
from recsys.reports.markdown import to_markdown


def write_report(folder: Path, content: ReportContent) -> list[Path]:
    """Writes report.html, report.md and report.csv (the long rows of the metric table).

    Raises:
        RunError: the metric table cannot be shown.
    """
    view = View(content.table, content.main_run)
    texts = {
        "report.html": to_html(content, view),
        "report.md": to_markdown(content, view),
        "report.csv": content.table.rows.write_csv(),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
