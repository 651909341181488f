"""Style of plots (colours, axes, labels), and their writing as SVG and PNG.

The only importer of matplotlib, by its object-oriented interface: no pyplot, so no window and no
figure list.
"""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from recsys.extras import extra
from recsys.files.atomic import atomic_path

with extra("report"):
    import matplotlib as mpl
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Figure
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.ticker import FuncFormatter as FuncFormatter
    from matplotlib.ticker import LogLocator as LogLocator
    from matplotlib.ticker import MaxNLocator as MaxNLocator
    from matplotlib.ticker import NullLocator as NullLocator

# Okabe and Ito's colours, told apart by colour-blind readers too; the palest ones left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00")
INK, QUIET, GRID, CARD = "#1c2530", "#5b6673", "#e6eaee", "#ffffff"
_SIZE = (5.6, 3.7)  # inches; small, so that the text stays readable on a phone
_GAP = 11.5  # points between the labels of two lines
_SVG_KEYS = ("Creator", "Date", "Format", "Type")


class EndLabel(NamedTuple):
    """Text beside the right end of a line."""

    text: str
    y: float
    colour: str
    bold: bool = False


def new_axes(
    title: str,
    subtitle: str,
    x_label: str,
    label_points: float,
    size: tuple[float, float] = _SIZE,
) -> tuple[Figure, Axes]:
    """An empty plot on a white card.

    Args:
        title: one line, above the left edge.
        subtitle: smaller, under it.
        x_label: under the axis.
        label_points: room at the right for labels, in points.
        size: inches.
    """
    figure = Figure(figsize=size, facecolor=CARD)
    width, height = (inches * 72 for inches in size)
    room = (1 - (56 + label_points) / width, 1 - 93 / height)
    axes = figure.add_axes((46 / width, 42 / height, *room))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.set_facecolor(CARD)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET, pad=6)
    axes.set_xlabel(x_label, fontsize=9, color=QUIET, labelpad=6)
    left = 14 / width
    for text, down, points, colour in ((title, 24, 11, INK), (subtitle, 38, 8, QUIET)):
        weight = "bold" if colour == INK else "normal"
        figure.text(
            left,
            1 - down / height,
            text,
            size=points,
            weight=weight,
            color=colour,
            parse_math=False,
        )
    return figure, axes


def draw_curve(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, main: bool) -> None:
    """A line with a dot at each measured point; the main one is heavier and on top."""
    axes.plot(
        x,
        y,
        color=colour,
        linewidth=2.4 if main else 1.6,
        marker="o",
        markersize=5.5 if main else 4,
        markeredgecolor="white",
        markeredgewidth=1,
        zorder=4 if main else 3,
        clip_on=False,
    )


def log2_ticks(axes: Axes, ticks: Sequence[int]) -> None:
    """A log2 x-axis with just these ticks, written as plain numbers."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ticks), labels=[f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    room = 2**0.25 if len(ticks) > 1 else 2
    axes.set_xlim(ticks[0] / room, ticks[-1] * room)


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Writes labels at the right edge, pushed apart where they would overlap.

    Call it last: it needs the final y-limits.
    """
    figure = cast(Figure, axes.get_figure(root=True))
    low, high = axes.get_ylim()
    points = axes.get_position().height * figure.get_figheight() * 72
    ordered = sorted(labels, key=lambda label: label.y)
    wanted = [(label.y - low) / (high - low) * points for label in ordered]
    for label, place, want in zip(ordered, spread(wanted, _GAP, 0, points), wanted, strict=True):
        axes.annotate(
            label.text,
            xy=(1, want / points),
            xytext=(10, place - want),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            size=9,
            color=legible(label.colour),
            weight="bold" if label.bold else "normal",
            parse_math=False,
            annotation_clip=False,
        )


def spread(
    places: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Moves ascending places as little as possible: `gap` apart and within `[low, high]`.

    The least-squares answer: isotonic regression of `places - i * gap` (pool adjacent
    violators), clipped to the bounds, then the gaps put back. Where not all fit, they overrun
    `high`.
    """
    pools: list[tuple[float, int]] = []  # mean and size
    for i, place in enumerate(places):
        mean, size = place - i * gap, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    last = max(low, high - (len(places) - 1) * gap)
    level = [min(max(mean, low), last) for mean, size in pools for _ in range(size)]
    return [mean + i * gap for i, mean in enumerate(level)]


def legible(colour: str) -> str:
    """The colour, as dark as text on a card has to be (WCAG 2: a contrast of 4.5)."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))

    def light(shade: float) -> float:
        parts = [shade * part for part in (red, green, blue)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shade = next(
        each / 100 for each in range(100, -1, -1) if 1.05 / (light(each / 100) + 0.05) >= 4.5
    )
    return "#" + "".join(f"{round(255 * shade * part):02x}" for part in (red, green, blue))


def ramp(count: int) -> list[str]:
    """`count` blues from pale to deep, for things that have an order."""
    pale, deep = (0x56, 0xA5, 0xD8), (0x04, 0x3A, 0x66)
    shares = [i / max(count - 1, 1) if count > 1 else 1.0 for i in range(count)]
    mixed = [
        [round(a + (b - a) * share) for a, b in zip(pale, deep, strict=True)] for share in shares
    ]
    return ["#" + "".join(f"{part:02x}" for part in colour) for colour in mixed]


def to_svg(figure: Figure, name: str) -> str:
    """The `<svg>` element as text, the same for the same figure, without outside references.

    Args:
        figure: what to draw.
        name: prefix of all ids inside, so that several figures can stand in one page.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(_SVG_KEYS))
    text = stream.getvalue()
    text = text[text.index("<svg") :]  # no XML prolog or DTD address inside a page
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)


def write_png(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Writes the figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        FigureCanvasAgg(figure)
        figure.savefig(stream, format="png", dpi=dpi)
