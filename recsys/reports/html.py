"""A report as one self-contained HTML page: inline style, inline SVG, nothing fetched."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recsys.reports.content import ReportContent, View
from recsys.reports.drawing import to_svg
from recsys.reports.plots import make_plots
from recsys.reports.words import card_lines, headline, standing

ALT = {
    "granularity": "The lead metric at each granularity, baselines as dashed lines",
    "retention": "Share of the full-width figure that each prefix keeps, by bytes per item",
    "loss": "Training loss by step",
    "validation": "Validation metric by epoch, one line per granularity",
}


def to_html(content: ReportContent, view: View) -> str:
    """The page. Texts are escaped; only our own drawings go in as they are."""
    environment = Environment(
        loader=PackageLoader("recsys.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = {name: Markup(to_svg(figure, name)) for name, figure in make_plots(content).items()}
    page: str = environment.get_template("report.html.j2").render(
        content=content,
        view=view,
        headline=headline(view.lines, view.lead),
        standing=standing(view.lines, view.lead),
        card=card_lines(view.table.card, view.num_users),
        plots=plots,
        alt=ALT,
    )
    return page
