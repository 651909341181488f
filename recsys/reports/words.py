"""Sentences of a report, made from its figures.

Whatever is said of two figures goes by the paired interval of their difference, never by how far
apart the figures are or whether their own intervals overlap.
"""

from collections.abc import Sequence

from recsys.evaluation.bootstrap import PairedDifference
from recsys.evaluation.protocol import ProtocolCard
from recsys.reports.content import View
from recsys.reports.paired.comparing import UNPAIRED, UNSURE
from recsys.reports.paired.words import sentences, signed
from recsys.reports.view import Line, number, percent

_ENOUGH = 0.95  # the headline names the shortest prefix that is sure to keep this share
_FRACTIONS = {2: "half", 4: "a quarter", 8: "an eighth", 16: "a sixteenth", 32: "1/32"}


def headline(view: View) -> str:
    """One sentence on the first run: what a short prefix keeps, and what it costs."""
    lead = view.lead
    known = [line for line in view.lines if lead in line.cells]
    if not known:
        return f"No run here has {lead.label}."
    mine = [line for line in known if line.run == known[0].run]
    full, shorter = mine[-1], mine[:-1]
    if full.granularity is None:
        return _highest(view, known)
    if not any(line.retention for line in shorter):
        return f"{full.run} reaches {lead.label} {full.value(lead)} at d{full.granularity}."
    sure = [line for line in shorter if _surely(line) >= _ENOUGH]
    chosen = sure[0] if sure else max(shorter, key=_surely)
    text = (
        f"{chosen.granularity} of {full.granularity} coordinates keep {chosen.kept} of "
        f"{lead.label}{_band(chosen)} at {_fraction(chosen, full)} of the bytes"
    )
    if chosen.paired is None:
        return f"{text}; {UNPAIRED}."
    text += _beside_full(chosen.paired)
    if sure:
        return f"{text}."
    users = f"{chosen.paired.num_users:,} users"
    return f"{text}. With {users} no shorter prefix is sure to keep {percent(_ENOUGH)}."


def _surely(line: Line) -> float:
    """What a prefix keeps at the least; where the table does not tell, what it has kept."""
    if line.paired is None:
        return line.retention or 0.0
    return line.band[0] if line.band else 0.0


def _band(line: Line) -> str:
    if line.band is None:
        return ""
    low, high = line.band
    return f" (95 % interval {100 * low:.1f} to {percent(high)})"


def _beside_full(paired: PairedDifference) -> str:
    if paired.verdict == "level":
        return f"; the difference from the full width {UNSURE}"
    return ", more than the full width" if paired.verdict == "above" else ""


def _fraction(part: Line, whole: Line) -> str:
    """The share of bytes in words where there is a word for it."""
    small, large = part.granularity or 0, whole.granularity or 1
    if large % small == 0 and large // small in _FRACTIONS:
        return _FRACTIONS[large // small]
    return percent(small / large)


def _highest(view: View, known: Sequence[Line]) -> str:
    """The best of several models, and whether it is better than the next."""
    lead = view.lead
    first, *others = sorted(known, key=lambda line: -line.cells[lead].value)
    text = f"{first.run} has the highest {lead.label}"
    if not others:
        return f"{text}: {first.value(lead)}."
    following = f"{others[0].run} follows with {others[0].value(lead)}"
    text += f" among {len(known)} models: {first.value(lead)}; {following}"
    return f"{text}{_paired(view, others[0], first)}."


def standing(view: View) -> str:
    """How the first run's full width stands beside the best of the other runs; may be empty."""
    lead = view.lead
    known = [line for line in view.lines if lead in line.cells]
    full = [line for line in known if line.run == known[0].run and line.is_full]
    widest = [line for line in known if line.granularity is None or line.is_full]
    others = [line for line in widest if line.run != known[0].run]
    if not full or not others:
        return ""
    own, best = full[0], max(others, key=lambda line: line.cells[lead].value)
    mine, theirs = own.cells[lead].value, best.cells[lead].value
    which = f"{best.run}, the best of the others ({number(lead.metric, theirs)})"
    text = f"At full width its {lead.label} of {number(lead.metric, mine)} "
    if theirs <= 0:
        return f"{text}stands beside {which}."
    gain = mine / theirs - 1
    text += f"is {percent(abs(gain))} {'above' if gain >= 0 else 'below'} {which}"
    return f"{text}{_paired(view, best, own)}."


def _paired(view: View, first: Line, second: Line) -> str:
    """The paired difference of two lines, and what it says."""
    found = view.comparisons.of((first.run, first.granularity), (second.run, second.granularity))
    if found is None:
        return f"; {UNPAIRED}"
    interval = signed(found)
    if found.verdict == "level":
        return f"; the paired difference ({interval}) {UNSURE}"
    better = second.run if found.verdict == "above" else first.run
    return f"; {better} is better: the paired difference is {interval}"


def paired_lines(view: View) -> list[str]:
    """What the paired differences of the first run say; nothing where none are known."""
    return sentences(view.families, view.subject) if view.subject else []


def card_lines(card: ProtocolCard, num_users: Sequence[int] = ()) -> list[tuple[str, str]]:
    """The protocol card as (what, text) pairs; every field of the card is in one of them."""
    users = f"; {' / '.join(f'{count:,}' for count in num_users)} users" if num_users else ""
    seen = "filtered" if card.filter_seen else "not filtered"
    return [
        *(
            [("beware", "what chooses epochs and settings is this very part: figures flatter")]
            if card.part == "valid"
            else []
        ),
        (
            "protocol",
            f"{card.protocol}: {card.part} part, fitted on {card.fit_on}, seen items {seen}",
        ),
        ("data", f"{card.dataset}{users}; filters: {', '.join(card.filters) or 'none'}"),
        ("content hash", card.content_hash),
        ("split", card.split),
        ("time ties", card.tie_rule),
        ("history", card.history),
        ("time of the request", card.request_time),
        ("candidates", card.candidates),
        ("score ties", card.score_ties),
        ("not scored", card.unscorable),
        *([("seen targets", card.filtered_targets)] if card.filtered_targets else []),
        *([("without training", card.untrained)] if card.untrained else []),
        ("metrics", card.metrics),
        ("catalogue", card.catalogue_metrics),
        ("segments", card.segments),
        ("baselines", card.baselines),
        ("intervals", card.intervals),
    ]
