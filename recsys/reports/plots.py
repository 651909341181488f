"""Plots of figures by granularity: the metric, and its share of the full-width value.

Each function returns a matplotlib Figure; `drawing.to_svg` and `drawing.write_png` write it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from recsys.reports.content import ReportContent, View
from recsys.reports.curves import training_plots
from recsys.reports.plot_style import (
    COLOURS,
    INK,
    QUIET,
    Axes,
    EndLabel,
    Figure,
    FuncFormatter,
    MaxNLocator,
    draw_curve,
    label_ends,
    log2_ticks,
    new_axes,
)
from recsys.reports.view import BYTES_PER_COORDINATE, Line


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
    names = short_names([line.run for run in [*runs, flat] for line in run])
    title = f"{view.lead.label} by granularity"
    figure, axes = new_axes(title, _under(view), "coordinates of the vector", _room(names.values()))
    labels = []
    for index, run in reversed(list(enumerate(runs))):  # the main run is drawn last, on top
        colour, main = _colour(index), run[0].run == view.subject
        cells = [line.cells[view.lead] for line in run]
        draw_curve(axes, _sizes([run]), [cell.value for cell in cells], colour, main)
        _band(axes, view, run, colour)
        labels.append(EndLabel(names[run[0].run], cells[-1].value, colour, main))
    for line in flat:
        value = line.cells[view.lead].value
        axes.axhline(value, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), alpha=0.75)
        labels.append(EndLabel(names[line.run], value, QUIET))
    log2_ticks(axes, _sizes(runs))
    tops = [cell.high or cell.value for line in view.lines if (cell := line.cells.get(view.lead))]
    axes.set_ylim(0, 1.06 * max(tops) or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    label_ends(axes, labels)
    return figure


def _under(view: View) -> str:
    card = view.table.card
    bands = any(cell.half_width for line in view.lines for cell in line.cells.values())
    text = f"{card.dataset}, {card.protocol} protocol, {card.part} part"
    return f"{text}; band: 95 % interval" if bands else text


def _band(axes: Axes, view: View, run: Sequence[Line], colour: str) -> None:
    """The intervals of a run; a bar where there is only one."""
    cells = [(line.granularity or 0, line.cells[view.lead]) for line in run]
    bounds = [
        (size, cell.low, cell.high)
        for size, cell in cells
        if cell.low is not None and cell.high is not None
    ]
    if len(bounds) == 1:
        axes.vlines(*bounds[0], color=colour, alpha=0.4, linewidth=2, zorder=2)
    elif bounds:
        at, low, high = zip(*bounds, strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)


def retention_plot(view: View) -> Figure:
    """What share of the full-width figure each prefix keeps, against the bytes of one item."""
    kept = [[line for line in run if line.retention is not None] for run in nested_runs(view)]
    runs = [(_colour(index), run) for index, run in enumerate(kept) if len(run) > 1]
    title = f"Share of full-width {view.lead.label} kept"
    several = len(runs) > 1
    room = _room(short_names([run[0].run for _, run in runs]).values()) if several else 12
    under = _under(view).partition(";")[0]
    if any(line.band for _, run in runs for line in run):
        under += "; band: 95 % interval, paired over users"
    figure, axes = new_axes(title, under, "bytes of one item's vector (fp32)", room)
    for colour, run in reversed(runs):
        shares = [100 * (line.retention or 0) for line in run]
        sizes = [line.num_bytes or 0 for line in run]
        draw_curve(axes, sizes, shares, colour, run[0].run == view.subject)
        banded = [(line.num_bytes or 0, *line.band) for line in run if line.band]
        if banded:
            at, low, high = np.array(banded).T
            axes.fill_between(at, 100 * low, 100 * high, color=colour, alpha=0.16, linewidth=0)
    log2_ticks(axes, [size * BYTES_PER_COORDINATE for size in _sizes([run for _, run in runs])])
    shown = [100 * (line.retention or 0) for _, run in runs for line in run]
    shown += [100 * bound for _, run in runs for line in run for bound in line.band or ()]
    axes.set_ylim(max(0, 10 * (min(shown) // 10) - 10), max(108, max(shown) + 8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0f} %"))
    _name_points(axes, [run for _, run in runs], view.subject)
    if several:
        label_ends(axes, _ranked_labels(runs, view))
    return figure


def _ranked_labels(runs: Sequence[tuple[str, Sequence[Line]]], view: View) -> list[EndLabel]:
    """Labels in the order of the lines' mean heights: at the right edge they all meet."""

    def height(run: Sequence[Line]) -> float:
        return sum(line.retention or 0 for line in run) / len(run)

    ordered = sorted(runs, key=lambda pair: height(pair[1]))
    names = short_names([run[0].run for _, run in runs])
    return [
        EndLabel(names[run[0].run], 100 + 1e-6 * rank, colour, run[0].run == view.subject)
        for rank, (colour, run) in enumerate(ordered)
    ]


def _name_points(axes: Axes, runs: Sequence[Sequence[Line]], subject: str | None) -> None:
    """Writes the main run's shares at its points, wherever no other line is in the way."""
    main = next((run for run in runs if run[0].run == subject), runs[0])
    before = -math.inf
    for line in main:
        share, size = 100 * (line.retention or 0), line.num_bytes
        rivals = [
            100 * (other.retention or 0)
            for run in runs
            for other in run
            if run is not main and other.num_bytes == size
        ]
        if line is not main[0] and all(share >= rival for rival in rivals):
            rising = share >= before  # the line itself comes from below, or from above
            _name(axes, line, share, (-6, 4 if rising else -11), "right")
        elif all(share <= rival for rival in rivals):
            _name(axes, line, share, (7, -9), "left")
        before = share


def _name(axes: Axes, line: Line, share: float, offset: tuple[int, int], side: str) -> None:
    axes.annotate(
        line.kept,
        (line.num_bytes or 0, share),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        size=8,
        color=INK,
        zorder=5,
    )


_LONGEST = 24
"""Characters of a label, so that the plot keeps half of the card."""


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Labels of runs: without settings (`ease l2=50` is `ease`), as far as they stay apart.

    Long ones are cut at the end; where they would be alike (runs of several seeds), in the middle;
    where they would be alike still, they are numbered in their order. The tables beside a plot have
    the whole names.
    """
    whole = list(dict.fromkeys(names))
    bare = {name: " ".join(word for word in name.split() if "=" not in word) for name in whole}
    alike = Counter(bare.values())
    chosen = {name: bare[name] if alike[bare[name]] == 1 else name for name in whole}
    for tail in (0, _LONGEST // 2):
        cut = {name: _cut(label, _LONGEST - 1 - tail, tail) for name, label in chosen.items()}
        if len(set(cut.values())) == len(cut):
            return cut
    return {
        name: f"{place}: {_cut(label, _LONGEST - 7, 0)}"
        for place, (name, label) in enumerate(chosen.items(), start=1)
    }


def _cut(label: str, head: int, tail: int) -> str:
    """A label that is too long by its head and its tail."""
    return label if len(label) <= _LONGEST else f"{label[:head]}…{label[len(label) - tail :]}"


def _room(names: Iterable[str]) -> float:
    """Points that labels with these names need at the right."""
    return min(320.0, 18 + 5.8 * max((len(name) for name in names), default=0))
