"""Sentences about paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys.evaluation.bootstrap import PairedDifference
from recsys.reports.paired.comparing import UNSURE
from recsys.reports.paired.families import Comparison, Family


def signed(found: PairedDifference) -> str:
    """`+0.0087, 95 % interval -0.0031 to +0.0198`."""
    figures = (found.difference, found.difference_low, found.difference_high)
    texts = [f"{'+' if value >= 0 else '-'}{abs(value):.4f}" for value in figures]
    return f"{texts[0]}, 95 % interval {texts[1]} to {texts[2]}"


def sentences(found: Sequence[Family], run: str) -> list[str]:
    """What the paired differences say of prefixes beside the full width, and of the full width
    beside every other model.
    """
    all_of = [each for family in found for each in family.comparisons]
    prefixes = [each for each in all_of if each.against[0] == run]
    others = [each for each in all_of if each.against[0] != run]
    told = []
    if prefixes:
        words = {"above": "{} {is} better", "below": "{} {is} worse", "level": _NOISE_OF}
        text = _said(prefixes, [each.vector for each in prefixes], words)
        told.append(f"Beside the full width of {prefixes[0].against[1]} coordinates, {text}.")
    if others:
        widest = max(each.place[1] or 0 for each in others)
        full = [each for each in others if (each.place[1] or 0) == widest]
        words = {
            "above": f"{run} is better than {{}}",
            "below": f"{run} is worse than {{}}",
            "level": f"the difference of {run} from {{}} {UNSURE}",
        }
        text = _said(full, [each.rival for each in full], words)
        told.append(f"With all {widest} coordinates {text}." if widest else f"{text}.")
    return told


_NOISE_OF = f"the difference of {{}} {UNSURE}"


def differences(found: Sequence[Family], run: str) -> list[str]:
    """A line for every prefix beside the full width, and for the full width beside every model:
    `d16 against d256: +0.0087, 95 % interval -0.0031 to +0.0198: may be noise`.
    """
    lines = []
    for family in found:
        mine, own = family.comparisons, family.comparisons[0].against[0] == run
        for each in mine if own else mine[-1:]:
            rival = f"d{each.against[1]}" if own else each.rival
            lines.append(f"{each.vector} against {rival}: {signed(each.paired)}: {each.says}")
    return lines


def _said(mine: Sequence[Comparison], names: Sequence[str], words: Mapping[str, str]) -> str:
    """`d8 is worse; the difference of d16 and d32 may be noise`."""
    parts = []
    for verdict, form in words.items():
        who = [n for n, each in zip(names, mine, strict=True) if each.paired.verdict == verdict]
        if who:
            parts.append(form.format(joined(who), **{"is": "is" if len(who) == 1 else "are"}))
    return "; ".join(parts)


def joined(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
