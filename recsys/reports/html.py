"""A report as one self-contained HTML page: inline style, inline SVG, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recsys.reports.content import ReportContent, View
from recsys.reports.words import card_lines, headline, standing

ALT = {
    "granularity": "The lead metric at each granularity, baselines as dashed lines",
    "retention": "Share of the full-width figure that each prefix keeps, by bytes per item",
    "loss": "Training loss by step",
    "validation": "Validation metric by epoch, one line per granularity",
}


def to_html(content: ReportContent, view: View, plots: Mapping[str, str]) -> str:
    """The page. Texts are escaped; only our own drawings (name -> SVG) go in as they are."""
    environment = Environment(
        loader=PackageLoader("recsys.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template("report.html.j2").render(
        content=content,
        view=view,
        headline=headline(view),
        standing=standing(view),
        card=card_lines(view.table.card, view.num_users),
        plots={name: Markup(svg) for name, svg in plots.items()},
        alt=ALT,
    )
    return page
