"""The plots of a report: metric by granularity, retention against bytes, training curves.

Each function returns a matplotlib Figure; `drawing.to_svg` and `drawing.write_png` write it.
"""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from recsys.reports.content import ReportContent, View
from recsys.reports.drawing import (
    COLOURS,
    QUIET,
    EndLabel,
    label_ends,
    log2_ticks,
    new_axes,
    ramp,
)
from recsys.reports.view import BYTES_PER_COORDINATE, Line, percent

_SMOOTHING_POINTS = 400  # of the loss curve: more cannot be seen and swell the page


def make_plots(content: ReportContent, k: int = 10) -> dict[str, Figure]:
    """Every plot the content has figures for, by name: granularity, retention, loss, validation.

    Raises:
        RunError: the metric table cannot be shown (see `View`).
    """
    view = View(content.table, content.main_run, ks=(k,))
    plots: dict[str, Figure] = {}
    if nested_runs(view):
        plots["granularity"] = granularity_plot(view)
        if any(len(run) > 1 for run in nested_runs(view)):
            plots["retention"] = retention_plot(view)
    if content.curves is not None:
        plots |= training_plots(content.curves)
    return plots


def nested_runs(view: View) -> list[list[Line]]:
    """Runs with granularities, each as its lines that have the lead figure, ascending."""
    runs = [
        [line for line in run if line.granularity is not None and view.lead in line.cells]
        for run in view.runs
    ]
    return [run for run in runs if run]


def _sizes(runs: Sequence[Sequence[Line]]) -> list[int]:
    return sorted({line.granularity or 0 for run in runs for line in run})


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def granularity_plot(view: View) -> Figure:
    """The lead metric by granularity, with its interval; un-nested runs as dashed lines."""
    runs = nested_runs(view)
    flat = [line for line in view.lines if line.granularity is None and view.lead in line.cells]
    names = [line.run for run in [*runs, flat] for line in run]
    figure, axes = new_axes(f"{view.lead.label} by granularity", "coordinates used", _room(names))
    labels = []
    for index, run in reversed(list(enumerate(runs))):  # the main run on top
        colour, main = _colour(index), run[0].run == view.subject
        _line(axes, view, run, colour, main)
        labels.append(EndLabel(run[0].run, run[-1].cells[view.lead].value, colour, main))
    for line in flat:
        value = line.cells[view.lead].value
        axes.axhline(value, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), alpha=0.75)
        labels.append(EndLabel(line.run, value, QUIET))
    log2_ticks(axes, _sizes(runs))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    label_ends(axes, labels)
    return figure


def _line(axes: Axes, view: View, run: Sequence[Line], colour: str, main: bool) -> None:
    sizes = [line.granularity or 0 for line in run]
    cells = [line.cells[view.lead] for line in run]
    axes.plot(
        sizes,
        [cell.value for cell in cells],
        color=colour,
        linewidth=2.4 if main else 1.6,
        marker="o",
        markersize=5.5 if main else 4,
        markeredgecolor="white",
        markeredgewidth=1,
        zorder=4 if main else 3,
        clip_on=False,
    )
    bounded = [
        (size, cell.low, cell.high)
        for size, cell in zip(sizes, cells, strict=True)
        if cell.low is not None and cell.high is not None
    ]
    if bounded:
        at, low, high = zip(*bounded, strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)


def retention_plot(view: View) -> Figure:
    """What share of the full-width figure each prefix keeps, against the bytes of one item."""
    runs = [
        kept
        for run in nested_runs(view)
        if len(kept := [line for line in run if line.retention is not None]) > 1
    ]
    several = len(runs) > 1
    room = _room([run[0].run for run in runs]) if several else 24
    figure, axes = new_axes(
        f"Share of full-width {view.lead.label} kept", "bytes of one item's vector (fp32)", room
    )
    labels = []
    for index, run in reversed(list(enumerate(runs))):
        main = run[0].run == view.subject
        sizes = [line.num_bytes or 0 for line in run]
        shares = [100 * (line.retention or 0) for line in run]
        axes.plot(
            sizes,
            shares,
            color=_colour(index),
            linewidth=2.4 if main else 1.6,
            marker="o",
            markersize=5.5 if main else 4,
            markeredgecolor="white",
            markeredgewidth=1,
            zorder=4 if main else 3,
            clip_on=False,
        )
        if main:
            _name_points(axes, sizes, shares, _colour(index))
        labels.append((run, _colour(index), main))
    log2_ticks(axes, [size * BYTES_PER_COORDINATE for size in _sizes(runs)])
    shown = [100 * (line.retention or 0) for run in runs for line in run]
    axes.set_ylim(max(0, 10 * (min(shown) // 10) - 10), max(105, max(shown) + 8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0f} %"))
    if several:
        # All end at 100 %: the labels stand at the shortest prefix's height order instead.
        label_ends(axes, [EndLabel(run[0].run, 100, colour, main) for run, colour, main in labels])
    return figure


def _name_points(axes: Axes, sizes: list[int], shares: list[float], colour: str) -> None:
    """Writes each share at its point: under a line that goes on rising, above one that falls."""
    for size, share, following in zip(sizes, shares, [*shares[1:], 200.0], strict=True):
        axes.annotate(
            percent(share / 100),
            (size, share),
            xytext=(6, -12) if following >= share else (-8, 8),
            textcoords="offset points",
            size=8,
            color=colour,
            zorder=5,
        )


def training_plots(curves: pl.DataFrame) -> dict[str, Figure]:
    """Loss by step and validation metric by epoch, as far as the log has them."""
    plots = {}
    loss = curves.filter(pl.col("loss").is_not_null() & pl.col("granularity").is_null())
    if not loss.is_empty():
        plots["loss"] = loss_plot(loss.sort("step"))
    values = curves.filter(pl.col("metric").is_not_null())
    if not values.is_empty():
        plots["validation"] = validation_plot(values)
    return plots


def loss_plot(loss: pl.DataFrame) -> Figure:
    """Training loss by step, averaged over blocks of steps; not-finite losses leave gaps."""
    block = max(1, loss.height // _SMOOTHING_POINTS)
    points = (
        loss.with_row_index("row")
        .group_by(pl.col("row") // block, maintain_order=True)
        .agg(pl.col("step").mean(), pl.col("loss").mean())
    )
    figure, axes = new_axes("Training loss", "step", 12)
    axes.plot(points["step"], points["loss"], color=COLOURS[0], linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.01)
    return figure


def validation_plot(values: pl.DataFrame) -> Figure:
    """A validation metric by epoch, one line per granularity: ndcg@10, or the first logged."""
    names = values["metric"].unique(maintain_order=True).to_list()
    name = "ndcg@10" if "ndcg@10" in names else names[0]
    chosen = values.filter(pl.col("metric") == name).sort("epoch")
    sizes = chosen["granularity"].unique().sort().to_list()
    figure, axes = new_axes(f"Validation {name} by epoch", "epoch", 46)
    labels = []
    for size, colour in zip(sizes, ramp(len(sizes)), strict=True):
        own = chosen.filter(pl.col("granularity").eq_missing(size))
        marker = "o" if own.height == 1 else None
        axes.plot(own["epoch"], own["value"], color=colour, linewidth=1.8, marker=marker)
        labels.append(EndLabel("" if size is None else f"d{size}", own["value"][-1], colour, True))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.01)
    label_ends(axes, labels)
    return figure


def _room(names: Sequence[str]) -> float:
    """Points that labels with these names need at the right."""
    return min(160.0, 22 + 5.6 * max((len(name) for name in names), default=0))
