"""A trade-off on disk: one self-contained HTML page, CSV of all points, plots as SVG."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recsys.evaluation.tradeoff import Point, Tradeoff
from recsys.files import atomic_path, write_text
from recsys.reports.drawing import to_svg
from recsys.reports.tradeoff.plots import tradeoff_plots
from recsys.reports.tradeoff.words import ARROWS, milliseconds, share

PAGE, TABLE = "tradeoff.html", "tradeoff.csv"


@dataclass(frozen=True)
class TradeoffContent:
    """What is told of a trade-off."""

    source: str
    """The run or bundle."""
    under: str
    """Data set, protocol and part in one line."""
    found: Tradeoff
    floor: float
    chosen: Point | None
    command: str | None
    """The `recsys export` that makes the chosen point."""
    machine: str
    """What the milliseconds were measured on."""

    @property
    def what(self) -> str:
        """The name of what is kept."""
        name = "overlap" if self.found.exact.ndcg is None else "ndcg"
        return f"{name}@{self.found.k}"

    @property
    def headline(self) -> str:
        """The finding in one sentence."""
        chosen = self.chosen
        if chosen is None:
            best = max(point.kept for point in self.found.points)
            return (
                f"No funnel of this sweep keeps {self.floor:.2%} of exact search's {self.what}; "
                f"the best one keeps {best:.2%}."
            )
        return (
            f"{chosen.kept:.1%} of exact search's {self.what} with {share(chosen.work_share)} of "
            f"its multiply-adds and {share(chosen.hot_share)} of its memory: "
            f"{chosen.hot_bytes:.1f} bytes an item."
        )

    def rows(self) -> list[Point]:
        """Exact search, then the best points by what they keep."""
        best = [point for point in self.found.points if point.best]
        return [self.found.exact, *sorted(best, key=lambda point: (-point.kept, point.hot_bytes))]


def write_tradeoff(folder: Path, content: TradeoffContent) -> list[Path]:
    """Writes page, table and plots, each whole or not at all.

    Returns:
        The files, the page last.
    """
    plots = tradeoff_plots(
        content.found, content.chosen, content.floor, content.what, content.under
    )
    drawn = {name: to_svg(figure, name) for name, figure in plots.items()}
    files = []
    for name, svg in drawn.items():
        files.append(folder / f"tradeoff-{name}.svg")
        write_text(files[-1], svg)
    files.append(folder / TABLE)
    frame = pl.DataFrame([asdict(point) for point in (content.found.exact, *content.found.points)])
    with atomic_path(files[-1]) as temporary:
        frame.write_csv(temporary)
    files.append(folder / PAGE)
    write_text(files[-1], to_html(content, drawn))
    return files


def to_html(content: TradeoffContent, drawn: dict[str, str]) -> str:
    """The page. Texts are escaped; only our own drawings go in as they are."""
    environment = Environment(
        loader=PackageLoader("recsys.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template("tradeoff/tradeoff.html.j2").render(
        content=content,
        plots={name: Markup(svg) for name, svg in drawn.items()},
        exact=content.found.exact,
        share=share,
        ms=milliseconds,
        cascades=any(point.cascade != "direct" for point in content.rows()),
        arrows=ARROWS,
    )
    return page
