"""The page of a trade-off: HTML, CSV of all points, plots as SVG."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import polars as pl

from recsys.files.atomic import atomic_path, write_text
from recsys.reports.pages import render
from recsys.reports.plot_style import to_svg
from recsys.reports.tradeoff.content import TradeoffContent
from recsys.reports.tradeoff.plots import tradeoff_plots
from recsys.reports.tradeoff.words import (
    ARROWS,
    funnel_of,
    half_of,
    milliseconds,
    share,
    size,
    spelled,
)

PAGE, TABLE = "tradeoff.html", "tradeoff.csv"


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
    page: str = render(
        "reports/tradeoff/tradeoff.html.j2",
        drawn,
        content=content,
        exact=content.found.exact,
        share=share,
        size=size,
        half=half_of,
        ms=milliseconds,
        example=content.chosen or content.rows()[-1],
        funnel_of=funnel_of,
        spelled=spelled,
        arrows=ARROWS,
    )
    return page
