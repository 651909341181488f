"""The report of a study on disk: one self-contained HTML page and its plots."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recsys.files.atomic import write_text
from recsys.reports.drawing import to_svg
from recsys.reports.words import card_lines
from recsys.study.report.content import (
    LEAD,
    MEAN,
    RETENTION,
    SHOWN,
    VERSUS_SEPARATE,
    Figure,
    K,
    StudyContent,
)
from recsys.study.report.plots import bytes_plot
from recsys.study.report.words import BYTES, HOW, INTERVALS, headline, standing


def write_study(folder: Path, content: StudyContent) -> tuple[Path, ...]:
    """Writes study.html and one SVG per metric; the page comes first."""
    plots = {metric: to_svg(bytes_plot(content, metric), metric) for metric in SHOWN}
    texts = {
        "study.html": to_html(content, plots),
        **{f"{metric}.svg": svg for metric, svg in plots.items()},
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in texts)


def to_html(content: StudyContent, plots: dict[str, str]) -> str:
    """The page; `plots` are our own drawings, metric -> SVG."""
    environment = Environment(
        loader=PackageLoader("recsys.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    num_users = sorted(content.summary["num_users"].unique().to_list())
    page: str = environment.get_template("study/study.html.j2").render(
        content=content,
        headline=headline(content),
        standing=standing(content),
        plots={name: Markup(svg) for name, svg in plots.items()},
        retention=content.ratios(RETENTION),
        tax=content.ratios(VERSUS_SEPARATE),
        groups=_groups(content),
        shown=SHOWN,
        lead=LEAD,
        k=K,
        how=HOW,
        bytes=BYTES,
        intervals=INTERVALS,
        card=[line for line in card_lines(content.card, num_users) if line[0] not in _UNUSED],
    )
    return page


_UNUSED = ("catalogue", "segments", "intervals")
"""Of the card: a study shows neither, and its intervals are its own."""


def _groups(content: StudyContent) -> list[list[dict[str, Figure]]]:
    """Every point, method by method: metric -> figure."""
    groups = []
    for method in content.methods:
        columns = [content.figures(MEAN, metric, method) for metric in SHOWN]
        rows = zip(*columns, strict=True)
        groups.append([dict(zip(SHOWN, row, strict=True)) for row in rows])
    return groups
