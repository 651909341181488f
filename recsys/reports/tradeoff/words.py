"""How a trade-off is put into words."""

from __future__ import annotations

from recsys.evaluation.tradeoff import Cascade, Point

ARROWS: dict[Cascade, str] = {"direct": ">", "halving": "/2>", "quartering": "/4>"}
"""From how many candidates are kept to what they are ranked by."""


def share(value: float) -> str:
    """A part of a whole: 1/24.3."""
    return (
        "all" if 0.995 <= value < 1.005 else f"1/{1 / value:.1f}" if value < 1 else f"{value:.2f}"
    )


def funnel_of(point: Point) -> str:
    """How candidates are found and ranked: `32 int8 ivf,sq8 200>256`."""
    way = f"{point.keep}{ARROWS[point.cascade]}{point.ranking}"
    return f"{point.granularity} {point.codec} {point.index} {way}"


def milliseconds(value: float) -> str:
    """As many digits as a clock deserves."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
