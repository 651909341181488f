"""Plots of a trade-off: quality kept against bytes and against work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys.evaluation.tradeoff.sweep import Point, Tradeoff
from recsys.reports.plot_style import (
    COLOURS,
    GRID,
    INK,
    QUIET,
    Axes,
    EndLabel,
    Figure,
    FuncFormatter,
    LogLocator,
    NullLocator,
    label_ends,
    new_axes,
    ramp,
)
from recsys.reports.tradeoff.words import funnel_of

_ABOVE = 7


def tradeoff_plots(
    found: Tradeoff,
    chosen: Point | None,
    measured: Point | None,
    floor: float,
    what: str,
    under: str,
) -> dict[str, Figure]:
    """`bytes`, a line for each codec, and `work`, a line for each granularity of candidates.

    What a prefix is stored as does not change how much is multiplied, so codecs would hide each
    other there.

    Args:
        found: the points.
        chosen: the one to name in bold.
        measured: the same with other users than it was chosen by, drawn with its interval.
        floor: what must be kept.
        what: the name of what is kept, `ndcg@10`.
        under: the subtitle.
    """
    shares = max(point.work_share for point in found.points) < 1
    return {
        "bytes": _plot(
            found.points,
            (chosen, measured),
            floor,
            (f"{what} kept by bytes in memory", under, "bytes of one item in memory"),
            lambda point: point.hot_bytes,
            lambda point: point.codec,
            "{:,.4g}",
        ),
        "work": _plot(
            found.points,
            (chosen, measured),
            floor,
            (f"{what} kept by work", under, "share of exact search's multiply-adds"),
            lambda point: (100 if shares else 1) * point.work_share,
            lambda point: f"{point.granularity} of {found.sizes[-1]}",
            "{:.3g} %" if shares else "{:.3g}",
            ordered=True,
        ),
    }


def _plot(
    points: Sequence[Point],
    named: tuple[Point | None, Point | None],
    floor: float,
    words: tuple[str, str, str],
    cost: Callable[[Point], float],
    group: Callable[[Point], str],
    ticks: str,
    ordered: bool = False,
) -> Figure:
    names = list(dict.fromkeys(map(group, points)))
    colours = ramp(len(names)) if ordered else COLOURS * 9
    figure, axes = new_axes(*words, 18 + 5.8 * max(map(len, [*names, "floor 99.9 %"])))
    axes.set_xscale("log")
    chosen, measured = named
    shown = _window(points, floor, measured)
    costs = [cost(point) for point in points]
    right = max(costs) * (max(costs) / min(costs)) ** 0.04 * 1.02
    labels = []
    for number, (name, colour) in enumerate(zip(names, colours, strict=False)):
        own = [point for point in points if group(point) == name]
        # Of lines that lie on each other the later one is thinner: the earlier one is its rim.
        _line(axes, own, cost, colour, 1.4 + 1.3 * (len(names) - 1 - number), right)
        labels.append(EndLabel(name, min(100 * max(p.kept for p in own), shown[1]), colour))
    axes.axhline(100 * floor, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    labels.append(EndLabel(f"floor {100 * floor:.4g} %", 100 * floor, QUIET))
    axes.set_xlim(right=right)
    _finish(axes, shown, ticks)
    if chosen is not None:
        _name(axes, chosen, cost(chosen))
    if measured is not None:
        _measured(axes, measured, cost(measured))
    label_ends(axes, labels)
    return figure


def _line(
    axes: Axes,
    points: Sequence[Point],
    cost: Callable[[Point], float],
    colour: str,
    width: float,
    right: float,
) -> None:
    """Points, and their front as a stair: what is kept for so much or less."""
    axes.scatter(
        [cost(p) for p in points],
        [100 * p.kept for p in points],
        s=13,
        color=colour,
        alpha=0.3,
        linewidth=0,
        zorder=2,
    )
    edge = front(points, cost)
    x, y = [cost(p) for p in edge], [100 * p.kept for p in edge]
    axes.plot(x, y, color=colour, linewidth=0, marker="o", markersize=width + 2.4, zorder=3)
    stair = [*x, right], [*y, y[-1]]
    axes.plot(*stair, color=colour, linewidth=width, drawstyle="steps-post", zorder=3)


def front(points: Sequence[Point], cost: Callable[[Point], float]) -> list[Point]:
    """The points that nothing cheaper equals, by ascending cost."""
    edge: list[Point] = []
    for point in sorted(points, key=lambda point: (cost(point), -point.kept)):
        if not edge or point.kept > edge[-1].kept:
            edge.append(point)
    return edge


def _window(points: Sequence[Point], floor: float, measured: Point | None) -> tuple[float, float]:
    """Per cent to show: the good points at a size that tells them apart."""
    kept = sorted(100 * point.kept for point in points)
    own = [] if measured is None else [measured.kept, measured.kept_low, measured.kept_high]
    bounds = [100 * bound for bound in (floor, *own) if bound is not None]
    low, high = min(kept[len(kept) // 4], *bounds), max(kept[-1], *bounds)
    room = max(high - low, 1.0) * 0.08
    return max(0.0, low - room), high + room


def _finish(axes: Axes, shown: tuple[float, float], ticks: str) -> None:
    axes.set_ylim(*shown)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g} %"))
    low, high = axes.get_xlim()
    subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
    axes.xaxis.set_major_locator(LogLocator(10, subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks.format(value)))
    axes.grid(axis="x", color=GRID, linewidth=0.6)


def _name(axes: Axes, point: Point, cost: float) -> None:
    low, high = axes.get_xlim()
    right = cost < (low * high) ** 0.5  # of the middle of a logarithmic axis
    axes.plot(
        [cost], [100 * point.kept], marker="o", markersize=10, markerfacecolor="none",
        markeredgecolor=INK, markeredgewidth=1.6, zorder=5,
    )  # fmt: skip
    axes.annotate(
        funnel_of(point),
        (cost, 100 * point.kept),
        xytext=(_ABOVE if right else -_ABOVE, _ABOVE),
        textcoords="offset points",
        ha="left" if right else "right",
        size=8.5,
        weight="bold",
        color=INK,
        zorder=6,
        parse_math=False,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )


def _measured(axes: Axes, point: Point, cost: float) -> None:
    """The figure that nothing was chosen by, with its interval."""
    if point.kept_low is not None and point.kept_high is not None:
        axes.vlines(cost, 100 * point.kept_low, 100 * point.kept_high, color=INK, linewidth=1.2,
                    zorder=4)  # fmt: skip
    axes.plot(
        [cost], [100 * point.kept], marker="s", markersize=6, markerfacecolor="white",
        markeredgecolor=INK, markeredgewidth=1.4, zorder=6,
    )  # fmt: skip
