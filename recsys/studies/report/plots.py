"""Plots of a study: accuracy against bytes for each item, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from recsys.reports.plot_style import (
    CARD,
    INK,
    QUIET,
    Axes,
    Line2D,
    MaxNLocator,
    log2_ticks,
    new_axes,
)
from recsys.reports.plot_style import Figure as Plot
from recsys.studies.report.content import MEAN, Figure, K, StudyContent

_SIZE = (8.6, 5.2)
_LEGEND_POINTS = 190.0


class _Look(NamedTuple):
    colour: str
    marker: str
    dashes: tuple[float, ...] = ()
    width: float = 1.3

    @property
    def style(self) -> Any:
        return (0, self.dashes) if self.dashes else "-"


# What the nested model gives is blue; other colours are Okabe and Ito's. Markers and dashes tell
# lines apart without colour.
LOOKS = {
    "nested": _Look("#0072b2", "o", width=2.6),
    "separate": _Look("#d55e00", "o", width=2.2),
    "truncation": _Look("#5b6673", "v", (4, 2)),
    "pca": _Look("#009e73", "s"),
    "svd": _Look("#006b4e", "^"),
    "projection": _Look("#9aa3ad", "<", (1, 1.5)),
    "int8": _Look("#8a6d00", "D"),
    "int4": _Look("#e0a000", "d"),
    "pca_int8": _Look("#009e73", "D", (4, 2)),
    "svd_int8": _Look("#006b4e", "D", (4, 2)),
    "pq": _Look("#cc79a7", "P"),
    "sparse": _Look("#7b4a2d", "X"),
    "nested_int8": _Look("#0072b2", "D", (4, 2)),
    "nested_int4": _Look("#4fa8dc", "d", (4, 2)),
    "nested_pq": _Look("#4fa8dc", "P", (1, 1.5)),
}
_BOLD = ("nested", "separate")


def bytes_plot(content: StudyContent, metric: str) -> Plot:
    """`metric`@10 of every method by the bytes of one item."""
    seeds = len(content.seeds)
    under = (
        f"{content.card.dataset}, {content.card.protocol} protocol, {content.card.part} part, "
        f"mean of {seeds} {'seed' if seeds == 1 else 'seeds'}; bands: 95 % interval over "
        f"{content.drawn}"
    )
    figure, axes = new_axes(
        f"{metric}@{K} against bytes per item", under, "bytes of one item", _LEGEND_POINTS, _SIZE
    )
    tops = []
    for method in reversed(content.methods):  # the first methods are drawn last, on top
        points = content.figures(MEAN, metric, method)
        _draw(axes, points, LOOKS[method], method in _BOLD)
        tops += [point.high or point.value for point in points]
    log2_ticks(axes, content.budgets)
    axes.set_ylim(0, 1.04 * max(tops) or 1)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    _legend(axes, content)
    return figure


def _draw(axes: Axes, points: Sequence[Figure], look: _Look, bold: bool) -> None:
    x, y = [p.num_bytes for p in points], [p.value for p in points]
    z = 6 if bold else 4
    axes.plot(x, y, color=look.colour, linewidth=look.width, linestyle=look.style, zorder=z)
    size = 6.5 if bold else 5
    for trained in (True, False):
        chosen = [p for p in points if p.trained == trained]
        axes.plot(
            [p.num_bytes for p in chosen],
            [p.value for p in chosen],
            linestyle="none",
            marker=look.marker,
            markersize=size if trained else size - 1,
            markerfacecolor=look.colour if trained else CARD,
            markeredgecolor=CARD if trained else look.colour,
            markeredgewidth=0.8 if trained else 1.3,
            zorder=z + 1,
            clip_on=False,
        )
    known = [p for p in points if p.low is not None and p.high is not None]
    low, high = [p.low or 0.0 for p in known], [p.high or 0.0 for p in known]
    at = [p.num_bytes for p in known]
    if len(known) == 1:
        axes.vlines(at, low, high, color=look.colour, alpha=0.45, linewidth=2, zorder=2)
    elif known:
        alpha = 0.17 if bold else 0.07
        axes.fill_between(at, low, high, color=look.colour, alpha=alpha, linewidth=0, zorder=2)


def _legend(axes: Axes, content: StudyContent) -> None:
    """Beside the axes: a line with many methods has no room for names at its ends."""
    handles = []
    for method in content.methods:
        if content.opens_family(method):
            handles.append(Line2D([], [], linestyle="none", label=content.families[method]))
        look = LOOKS[method]
        alone = len({p.num_bytes for p in content.figures(MEAN, "ndcg", method)}) == 1
        handles.append(
            Line2D(
                [],
                [],
                color=look.colour,
                linewidth=look.width,
                linestyle="none" if alone else look.style,
                marker=look.marker,
                markersize=5.5,
                markeredgecolor=CARD,
                label=content.labels[method],
            )
        )
        if any(not p.trained for p in content.figures(MEAN, "ndcg", method)):
            hollow = Line2D([], [], color=look.colour, linestyle="none", marker=look.marker)
            hollow.set(markersize=5, markerfacecolor=CARD)
            hollow.set_label(f"{content.labels[method]}, width never trained")
            handles.append(hollow)
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=2.6,
        labelspacing=0.55,
        borderaxespad=0,
    )
    headings = set(content.families.values())
    for text in legend.get_texts():
        if text.get_text() in headings:  # stands where the samples do
            text.set(position=(-30, 0), color=QUIET, fontsize=8)
