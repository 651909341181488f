"""A trade-off on disk: one self-contained HTML page, CSV of all points, plots as SVG."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recsys.evaluation.tradeoff.sweep import Choice, Point, Tradeoff
from recsys.files.atomic import atomic_path, write_text
from recsys.reports.drawing import to_svg
from recsys.reports.tradeoff.plots import tradeoff_plots
from recsys.reports.tradeoff.words import (
    ARROWS,
    choice_sentence,
    half_of,
    kept_of,
    measured_sentence,
    milliseconds,
    share,
    wanted_of,
)

PAGE, TABLE = "tradeoff.html", "tradeoff.csv"


@dataclass(frozen=True)
class TradeoffContent:
    """What is told of a trade-off."""

    source: str
    """The run or bundle."""
    under: str
    """Data set and protocol in one line."""
    parts: tuple[str, str]
    """Who the sweep was measured with, and who the chosen funnel."""
    found: Tradeoff
    """All funnels, with the users to choose by."""
    floor: float
    choice: Choice | None
    measured: Tradeoff | None
    """The chosen funnel alone, with the users to measure by."""
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
    def chosen(self) -> Point | None:
        """The funnel to take, as measured with the users to choose by."""
        return self.choice.point if self.choice else None

    @property
    def headline(self) -> str:
        """What the chosen funnel keeps, measured once."""
        if self.measured is None:
            best = max(self.found.points, key=lambda point: point.kept)
            return (
                f"No funnel of this sweep keeps {wanted_of(self.floor)} of exact search's "
                f"{self.what} on {self.parts[0]}; the best one keeps {kept_of(best)}."
            )
        return measured_sentence(self.measured.points[0], self.what, self.floor, self.parts[1])

    @property
    def standing(self) -> str:
        """How the funnel was chosen."""
        return choice_sentence(self.choice, self.floor, self.parts[0]) if self.choice else ""

    def rows(self) -> list[Point]:
        """Exact search, then the best points by what they keep, with the users to choose by."""
        best = [point for point in self.found.points if point.best]
        return [self.found.exact, *sorted(best, key=lambda point: (-point.kept, point.hot_bytes))]


def write_tradeoff(folder: Path, content: TradeoffContent) -> list[Path]:
    """Writes page, table and plots, each whole or not at all.

    Returns:
        The files, the page last.
    """
    measured = content.measured.points[0] if content.measured else None
    under = f"{content.under}, {content.parts[0]}"
    plots = tradeoff_plots(
        content.found, content.chosen, measured, content.floor, content.what, under
    )
    drawn = {name: to_svg(figure, name) for name, figure in plots.items()}
    files = []
    for name, svg in drawn.items():
        files.append(folder / f"tradeoff-{name}.svg")
        write_text(files[-1], svg)
    files.append(folder / TABLE)
    frame = pl.DataFrame(
        [
            {"part": part} | asdict(point)
            for part, found in zip(content.parts, (content.found, content.measured), strict=True)
            for point in ((found.exact, *found.points) if found else ())
        ]
    )
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
        half=half_of,
        ms=milliseconds,
        cascades=any(point.cascade != "direct" for point in content.rows()),
        arrows=ARROWS,
    )
    return page
