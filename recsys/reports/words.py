"""Sentences of a report, computed from its numbers: the headline, the standing and the card."""

from collections.abc import Sequence

from recsys.evaluation.protocol import ProtocolCard
from recsys.reports.view import Cell, Column, Line, number, percent

_ENOUGH = 0.95  # the headline names the shortest prefix that keeps at least this share
_FRACTIONS = {2: "half", 4: "a quarter", 8: "an eighth", 16: "a sixteenth", 32: "1/32"}


def headline(lines: Sequence[Line], lead: Column) -> str:
    """One sentence on the first run: what a short prefix keeps, and what it costs."""
    known = [line for line in lines if lead in line.cells]
    if not known:
        return f"No run here has {lead.label}."
    first = known[0]
    mine = [line for line in known if line.run == first.run]
    full, shorter = mine[-1], mine[:-1]
    if full.granularity is None:
        among = f" among {len(known)} models" if len(known) > 1 else ""
        best = max(known, key=lambda line: line.cells[lead].value)
        return f"{best.run} has the highest {lead.label}{among}: {best.value(lead)}."
    enough = [line for line in shorter if (line.retention or 0.0) >= _ENOUGH]
    chosen = enough[0] if enough else max(shorter, key=_retention, default=None)
    if chosen is None:
        return f"{first.run} reaches {lead.label} {full.value(lead)} at d{full.granularity}."
    return (
        f"{chosen.granularity} of {full.granularity} coordinates keep {chosen.kept} of "
        f"{lead.label} at {_fraction(chosen, full)} of the bytes."
    )


def _retention(line: Line) -> float:
    return line.retention or 0.0


def _fraction(part: Line, whole: Line) -> str:
    """The share of bytes in words where there is a word for it."""
    small, large = part.granularity or 0, whole.granularity or 1
    if large % small == 0 and large // small in _FRACTIONS:
        return _FRACTIONS[large // small]
    return percent(small / large)


def standing(lines: Sequence[Line], lead: Column) -> str:
    """How the first run's full width stands beside the best of the other runs; may be empty."""
    known = [line for line in lines if lead in line.cells]
    full = [line for line in known if line.run == known[0].run and line.is_full]
    widest = [line for line in known if line.granularity is None or line.is_full]
    others = [line for line in widest if line.run != known[0].run]
    if not full or not others:
        return ""
    best = max(others, key=lambda line: line.cells[lead].value)
    mine, theirs = full[0].cells[lead], best.cells[lead]
    which = f"{best.run}, the best of the others ({number(lead.metric, theirs.value)})"
    text = f"At full width its {lead.label} of {number(lead.metric, mine.value)} "
    if theirs.value <= 0:
        return f"{text}stands beside {which}."
    gain = mine.value / theirs.value - 1
    text += f"is {percent(abs(gain))} {'above' if gain >= 0 else 'below'} {which}"
    return text + ("; the 95 % intervals overlap." if _overlap(mine, theirs) else ".")


def _overlap(one: Cell, other: Cell) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def card_lines(card: ProtocolCard, num_users: Sequence[int] = ()) -> list[tuple[str, str]]:
    """The protocol card as (what, text) pairs; every field of the card is in one of them."""
    users = f"; {' / '.join(f'{count:,}' for count in num_users)} users" if num_users else ""
    seen = "filtered" if card.filter_seen else "not filtered"
    return [
        (
            "protocol",
            f"{card.protocol}: {card.part} part, fitted on {card.fit_on}, seen items {seen}",
        ),
        ("data", f"{card.dataset}{users}; filters: {', '.join(card.filters) or 'none'}"),
        ("content hash", card.content_hash),
        ("split", card.split),
        ("time ties", card.tie_rule),
        ("history", card.history),
        ("candidates", card.candidates),
        ("score ties", card.score_ties),
        ("not scored", card.unscorable),
        ("metrics", card.metrics),
        ("catalogue", card.catalogue_metrics),
        ("segments", card.segments),
        ("baselines", card.baselines),
        ("intervals", card.intervals),
    ]
