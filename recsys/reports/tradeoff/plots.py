"""Plots of a trade-off: what is kept against bytes in memory, and against work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from recsys.evaluation.tradeoff import Point, Tradeoff
from recsys.reports.drawing import COLOURS, GRID, INK, QUIET, EndLabel, label_ends, new_axes

_OFFSETS = ((7, -11), (-7, 7))


def tradeoff_plots(
    found: Tradeoff, chosen: Point | None, floor: float, what: str, under: str
) -> dict[str, Figure]:
    """`bytes` and `work`, by name.

    Args:
        found: the points.
        chosen: the one to name in bold.
        floor: what must be kept.
        what: the name of what is kept, `ndcg@10`.
        under: the subtitle.
    """
    return {
        "bytes": _plot(
            found,
            chosen,
            floor,
            (f"{what} kept by bytes in memory", under, "bytes of one item in memory"),
            lambda point: point.hot_bytes,
        ),
        "work": _plot(
            found,
            chosen,
            floor,
            (f"{what} kept by work", under, "share of exact search's multiply-adds"),
            lambda point: point.multiply_adds / found.exact.multiply_adds,
        ),
    }


def _plot(
    found: Tradeoff,
    chosen: Point | None,
    floor: float,
    words: tuple[str, str, str],
    cost: Callable[[Point], float],
) -> Figure:
    codecs = list(dict.fromkeys(point.codec for point in found.points))
    figure, axes = new_axes(*words, 18 + 5.8 * max(map(len, [*codecs, "floor 99.9 %"])))
    axes.set_xscale("log")
    shown = _window(found.points, floor)
    labels = []
    for codec, colour in zip(codecs, COLOURS * 9, strict=False):
        points = [point for point in found.points if point.codec == codec]
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
        places = [cost(p) for p in edge], [100 * p.kept for p in edge]
        axes.plot(*places, color=colour, linewidth=1.8, marker="o", markersize=4, zorder=3)
        labels.append(EndLabel(codec, min(100 * edge[-1].kept, shown[1]), colour))
    axes.axhline(100 * floor, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    labels.append(EndLabel(f"floor {100 * floor:.4g} %", 100 * floor, QUIET))
    _finish(axes, shown, max(map(cost, found.points)) < 1)
    if chosen is not None:
        _name(axes, chosen, cost(chosen))
    label_ends(axes, labels)
    return figure


def front(points: Sequence[Point], cost: Callable[[Point], float]) -> list[Point]:
    """The points that nothing cheaper equals, by ascending cost."""
    edge: list[Point] = []
    for point in sorted(points, key=lambda point: (cost(point), -point.kept)):
        if not edge or point.kept > edge[-1].kept:
            edge.append(point)
    return edge


def _window(points: Sequence[Point], floor: float) -> tuple[float, float]:
    """Per cent to show: the good points at a size that tells them apart."""
    kept = sorted(100 * point.kept for point in points)
    low = min(kept[len(kept) // 4], 100 * floor)
    high = max(kept[-1], 100 * floor)
    room = max(high - low, 1.0) * 0.08
    return max(0.0, low - room), high + room


def _finish(axes: Axes, shown: tuple[float, float], shares: bool) -> None:
    axes.set_ylim(*shown)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g} %"))
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:.3g} %" if shares else f"{value:,.4g}")
    )
    axes.grid(axis="x", color=GRID, linewidth=0.6)


def _name(axes: Axes, point: Point, cost: float) -> None:
    right = cost < sum(axes.get_xlim()) / 2
    axes.plot(
        [cost], [100 * point.kept], marker="o", markersize=10, markerfacecolor="none",
        markeredgecolor=INK, markeredgewidth=1.6, zorder=5,
    )  # fmt: skip
    axes.annotate(
        f"{point.granularity} {point.codec}, keep {point.keep}",
        (cost, 100 * point.kept),
        xytext=_OFFSETS[0] if right else _OFFSETS[1],
        textcoords="offset points",
        ha="left" if right else "right",
        size=8.5,
        weight="bold",
        color=INK,
        zorder=6,
        parse_math=False,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
