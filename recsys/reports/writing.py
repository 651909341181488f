"""Writing of a report to disk: HTML, Markdown, CSV and plots."""

from __future__ import annotations

from pathlib import Path

from recsys.files.atomic import write_text
from recsys.reports.content import ReportContent, View
from recsys.reports.html import ALT, to_html
from recsys.reports.markdown import to_markdown
from recsys.reports.plot_style import to_svg
from recsys.reports.plots import make_plots


def write_report(folder: Path, content: ReportContent) -> list[Path]:
    """Writes report.html, report.md, report.csv (the long rows of the metric table) and the plots.

    Returns:
        The files: the HTML page first, then Markdown and CSV, then one SVG per plot.

    Raises:
        RunError: the metric table cannot be shown.
    """
    view = View(content.table, content.main_run)
    plots = {name: to_svg(figure, name) for name, figure in make_plots(content).items()}
    texts = {
        "report.html": to_html(content, view, plots),
        "report.md": to_markdown(content, view, {f"{name}.svg": ALT[name] for name in plots}),
        "report.csv": content.table.rows.write_csv(),
        **{f"{name}.svg": svg for name, svg in plots.items()},
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
