"""Writing of a study's report: one HTML page and its plots."""

from __future__ import annotations

from pathlib import Path

from recsys.files.atomic import write_text
from recsys.reports.pages import render
from recsys.reports.plot_style import to_svg
from recsys.reports.words import card_lines
from recsys.studies.report.content import (
    LEAD,
    MEAN,
    RETENTION,
    VERSUS_SEPARATE,
    Figure,
    K,
    StudyContent,
)
from recsys.studies.report.plots import bytes_plot
from recsys.studies.report.words import BYTES, HOW, INTERVALS, headline, standing


def write_study(folder: Path, content: StudyContent) -> tuple[Path, ...]:
    """Writes study.html and one SVG per metric; the page comes first."""
    plots = {metric: to_svg(bytes_plot(content, metric), metric) for metric in content.shown}
    texts = {
        "study.html": to_html(content, plots),
        **{f"{metric.rpartition(':')[2]}.svg": svg for metric, svg in plots.items()},
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in texts)


def to_html(content: StudyContent, plots: dict[str, str]) -> str:
    """The page; `plots` are our own drawings, metric -> SVG."""
    num_users = sorted(content.summary["num_users"].unique().to_list())
    page: str = render(
        "studies/report/study.html.j2",
        plots,
        content=content,
        headline=headline(content),
        standing=standing(content),
        retention=content.ratios(RETENTION),
        tax=content.ratios(VERSUS_SEPARATE),
        truncated=bool(content.figures(RETENTION, LEAD, "truncation")),
        groups=_groups(content),
        shown=content.shown,
        lead=LEAD,
        k=K,
        how=HOW,
        bytes=BYTES,
        intervals=INTERVALS,
        card=[line for line in card_lines(content.card, num_users) if line[0] not in _UNUSED],
    )
    return page


_UNUSED = ("catalogue", "segments", "baselines", "intervals")
"""Of the card: a study shows none of them, and its intervals are its own."""


def _groups(content: StudyContent) -> list[list[dict[str, Figure]]]:
    """Every point, method by method: metric -> figure."""
    groups = []
    for method in content.methods:
        columns = [content.figures(MEAN, metric, method) for metric in content.shown]
        rows = zip(*columns, strict=True)
        groups.append([dict(zip(content.shown, row, strict=True)) for row in rows])
    return groups
