"""How the figures of results files are written on a page."""

from __future__ import annotations

from recsys.reports.results.record import Figure, Unit
from recsys.reports.view import MISSING, percent


def written(figure: Figure | None, *, interval: bool = True) -> str:
    """A figure with half its interval behind it; a dash where there is no figure.

    Where an interval is known it is half of its length that is written: `0.0924 ±0.0140`.
    """
    if figure is None:
        return MISSING
    text = number(figure.unit, figure.value)
    if not interval or figure.low is None or figure.high is None:
        return text
    half = number(figure.unit, (figure.high - figure.low) / 2).removesuffix(" %")
    return f"{text} ±{half}"


def number(unit: Unit, value: float) -> str:
    """A value of that unit."""
    if unit == "score":
        return f"{value:.4f}"
    if unit == "share":
        return percent(value)
    if unit in ("bytes", "count", "per second"):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def short(text: str) -> str:
    """The same without the zero before the point: `.0924 ±.0140`."""
    return " ".join(
        word.replace("0.", ".", 1) if word.startswith(("0.", "±0.")) else word
        for word in text.split(" ")
    )
