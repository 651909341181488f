"""Sentences of a trade-off's report."""

from __future__ import annotations

from recsys.evaluation.tradeoff.sweep import Cascade, Choice, Point
from recsys.reports.view import percent

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


_GOES_ON = {"halving": "a half", "quartering": "a quarter"}


def spelled(point: Point) -> str:
    """What `funnel_of` says in short."""
    text = (
        f"the first {point.granularity} coordinates, stored as {point.codec}, find {point.keep:,} "
        f"candidates ({point.index}), which {point.ranking} coordinates rank"
    )
    if point.cascade == "direct":
        return text
    return (
        f"{text}; {_GOES_ON[point.cascade]} of them goes on at each granularity between "
        f"({ARROWS[point.cascade]})"
    )


def milliseconds(value: float) -> str:
    """As many digits as a clock deserves."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def size(count: float) -> str:
    """Bytes of an item: `1,028`, `12.5`."""
    return f"{count:,.1f}".removesuffix(".0")


def half_of(point: Point) -> str:
    """Half the interval of what a funnel keeps, in percent; empty where there is none."""
    if point.kept_low is None or point.kept_high is None or point.kept_low == point.kept_high:
        return ""
    return f"±{50 * (point.kept_high - point.kept_low):.1f}"


def kept_of(point: Point) -> str:
    """What a funnel keeps, with its interval."""
    if point.kept_low is None or point.kept_high is None:
        return f"{percent(point.kept)} (no interval: in a resample exact search finds nothing)"
    low, high = 100 * point.kept_low, 100 * point.kept_high
    return f"{percent(point.kept)} (95 % interval {low:.1f} to {high:.1f} %)"


def wanted_of(floor: float) -> str:
    """The share that is asked for: `99 %`."""
    return f"{100 * floor:.4g} %"


def measured_sentence(point: Point, what: str, floor: float, part: str) -> str:
    """What the chosen funnel keeps of exact search, and what it takes."""
    text = (
        f"On {part} {funnel_of(point)} keeps {kept_of(point)} of exact search's {what} with "
        f"{share(point.work_share)} of its multiply-adds and {share(point.hot_share)} of its "
        f"memory: {size(point.hot_bytes)} bytes an item"
    )
    if point.kept_high is not None and point.kept_high < floor:
        return f"{text}. That is less than the {wanted_of(floor)} asked for."
    if point.kept_low is None or point.kept_low < floor:
        return f"{text}. Whether that is the {wanted_of(floor)} asked for, these users do not tell."
    return f"{text}."


def choice_sentence(choice: Choice, floor: float, part: str) -> str:
    """By what rule the funnel was chosen, and whether others may be as good."""
    kept, wanted = kept_of(choice.point), wanted_of(floor)
    if choice.sure:
        text = (
            f"Chosen on {part}: {funnel_of(choice.point)}, the cheapest that surely keeps "
            f"{wanted} there: {kept}"
        )
        tail = "the safer one is taken"
    else:
        text = (
            f"No funnel surely keeps {wanted} on {part}; the safest is taken, "
            f"{funnel_of(choice.point)}, whose lists are most like those of exact search "
            f"({percent(choice.point.overlap)} the same): {kept}"
        )
        tail = "more users would"
    if not choice.undecided:
        return f"{text}."
    one = choice.undecided == 1
    others = "One cheaper funnel" if one else f"{choice.undecided} cheaper funnels"
    return f"{text}. {others} may keep as much, these users do not tell; {tail}."
