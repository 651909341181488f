"""The page of a table study: a plot and one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.files.atomic import write_text
from recsys.reports.pages import render
from recsys.reports.plot_style import (
    CARD,
    GRID,
    INK,
    QUIET,
    Axes,
    Figure,
    Line2D,
    to_svg,
)
from recsys.reports.words import card_lines
from recsys.studies.report.tables import LEAD, TablesContent

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#5b6673", "#7b4a2d", "#4fa8dc")
_MARKERS = "osD^vPX<>d"
_COLUMNS = 3
_SIZE = (9.6, 3.0)
"""Inches: the width of all, the height of a row of axes."""


def write_tables(folder: Path, content: TablesContent) -> tuple[Path, ...]:
    """Writes tables.html and tables.svg; the page comes first."""
    svg = to_svg(tables_plot(content), "tables")
    users = sorted(content.figures["num_users"].unique().to_list())
    page = render(
        "studies/report/tables.html.j2",
        {"tables": svg},
        content=content,
        shown=(LEAD, "recall"),
        card=[line for line in card_lines(content.card, users) if line[0] != "intervals"],
    )
    write_text(folder / "tables.html", page)
    write_text(folder / "tables.svg", svg)
    return folder / "tables.html", folder / "tables.svg"


def tables_plot(content: TablesContent) -> Figure:
    """ndcg@10 against the share of the dense table's bytes, an axis for every granularity."""
    rows = -(-len(content.sizes) // _COLUMNS)
    figure = Figure(figsize=(_SIZE[0], rows * _SIZE[1] + 1.2), facecolor=CARD, layout="constrained")
    names = list(content.lines(LEAD, content.sizes[-1]))
    for place, size in enumerate(content.sizes, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        _draw(axes, content, size, names)
    handles = [
        Line2D([], [], label=_label(name), markersize=5, **_look(number, name))
        for number, name in enumerate(names)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8,
        labelcolor=INK,
    )  # fmt: skip
    title = f"{LEAD}@10 against bytes of the item table over those of a dense one"
    figure.suptitle(title, fontsize=11, weight="bold", color=INK)
    return figure


def _draw(axes: Axes, content: TablesContent, size: int, names: list[tuple[str, bool]]) -> None:
    lines = content.lines(LEAD, size)
    tops = [0.0]
    for number, name in enumerate(names):
        points = lines.get(name, [])
        look = _look(number, name)
        x, y = [p["byte_share"] for p in points], [p["value"] for p in points]
        axes.plot(x, y, markersize=5, **look)
        for p in points:
            axes.vlines(p["byte_share"], p["low"], p["high"], color=look["color"], alpha=0.3)
            tops.append(p["high"])
    if dense := lines.get((content.dense, True)):
        axes.axhline(dense[0]["value"], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set_xscale("log", base=2)
    axes.set_xticks([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], labels=["1/16", "1/8", "1/4", "1/2", "1"])
    axes.minorticks_off()
    axes.set_ylim(0, 1.05 * max(tops) or 1)
    axes.set_title(f"d{size}", fontsize=9, color=INK, loc="left")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _look(number: int, name: tuple[str, bool]) -> dict[str, Any]:
    colour = _COLOURS[number % len(_COLOURS)]
    return {
        "color": colour,
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": "-" if name[1] else (0, (4, 2)),
        "markerfacecolor": colour if name[1] else CARD,
        "linewidth": 1.4,
    }


def _label(name: tuple[str, bool]) -> str:
    return name[0] if name[1] else f"{name[0]} (after training)"
