"""A report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.reports.content import ReportContent, View
from recsys.reports.pages import render
from recsys.reports.paired.families import METHOD
from recsys.reports.words import card_lines, headline, paired_lines, standing

ALT = {
    "granularity": "The lead metric at each granularity, baselines as dashed lines",
    "retention": "Share of the full-width figure that each prefix keeps, by bytes per item",
    "loss": "Training loss by step",
    "validation": "Validation metric by epoch, one line per granularity",
}


def to_html(content: ReportContent, view: View, plots: Mapping[str, str]) -> str:
    """The page. Texts are escaped; only our own drawings (name -> SVG) go in as they are."""
    page: str = render(
        "reports/report.html.j2",
        plots,
        content=content,
        view=view,
        headline=headline(view),
        standing=standing(view),
        paired=paired_lines(view),
        method=METHOD,
        card=card_lines(view.table.card, view.num_users),
        alt=ALT,
    )
    return page
