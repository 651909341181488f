"""Sentences of a study's report."""

from __future__ import annotations

from recsys.reports.view import MISSING, percent
from recsys.studies.report.content import (
    LEAD,
    RETENTION,
    VERSUS_SEPARATE,
    Figure,
    K,
    StudyContent,
)

HOW = {
    "nested": "prefixes of one model trained at all granularities; hollow points were never "
    "trained",
    "separate": "for each width a model of its own, trained by the same recipe with that one "
    "granularity (table, encoder and vectors all of that width, unless the recipe sets the "
    "encoder's width apart)",
    "truncation": "prefixes of the separately trained model of full width, which was never told "
    "that prefixes matter; normalised anew where the model ranks by cosine",
    "pca": "principal components of the full-width item vectors as they are served, centred, "
    "ranked by dot product: at full rank every ranking stays what it was (prefixes normalised anew "
    "ranked worse on the validation parts of MovieLens 100K and Beauty)",
    "svd": "of all linear maps to so many coordinates the one that keeps the scores of the "
    "training users best (Eckart and Young)",
    "projection": "prefixes of a random rotation of the full-width vectors",
    "int8": "full-width vectors rounded to 255 levels, one scale per item",
    "int4": "full-width vectors rounded to 15 levels, one scale per item",
    "pca_int8": "the PCA prefixes rounded to 255 levels, one scale per coordinate",
    "svd_int8": "the SVD prefixes rounded to 255 levels, one scale per coordinate",
    "pq": "product quantization of the full-width vectors, one byte per part",
    "sparse": "k of many atoms, found by matching pursuit in a fitted dictionary; an index and a "
    "value of two bytes each",
    "nested_int8": "nested prefixes rounded to 255 levels, one scale per item",
    "nested_int4": "nested prefixes rounded to 15 levels, one scale per item",
    "nested_pq": "product quantization of the full-width nested vectors",
}
"""How the points of each method are made."""

INTERVALS = (
    "Figures are means over seeds and users. Intervals are 95 % percentile bootstrap intervals "
    "that resample users and seeds: each draw is the mean over resampled users plus what resampled "
    "seeds add, whose deviations are widened by sqrt(S / (S - 1)) as S seeds understate their own "
    "spread. Ratios are paired: all figures of a draw share their users, and figures of the same "
    "runs their seeds. With one seed intervals are over users alone."
)
BYTES = (
    "Bytes are those of one item. What is stored once beside all items (codebooks, atoms, the map "
    "that users go through) is not in them: the list of all figures gives it as shared bytes. "
    "Users stay in float32 for every method."
)


ENOUGH = 0.95
"""The headline names the shortest prefix that is sure to keep this share."""


def headline(content: StudyContent) -> str:
    """What the shortest trained prefix keeps that is sure to keep 95 %; or the surest of all."""
    kept = [f for f in content.figures(RETENTION, LEAD, "nested") if f.trained]
    shorter = [f for f in kept if f.granularity < content.full]
    if not shorter:
        return "The nested model has not been measured yet."
    sure = [f for f in shorter if f.low is not None and f.low >= ENOUGH]
    first = sure[0] if sure else max(shorter, key=_surely)
    text = (
        f"{first.granularity} of {content.full} coordinates keep {first.share} of {LEAD}@{K} "
        f"({_interval(first)})"
    )
    if sure:
        return f"{text}."
    return f"{text}; no shorter prefix is sure to keep {percent(ENOUGH)}."


def _surely(figure: Figure) -> float:
    return figure.low or 0.0


def _interval(ratio: Figure) -> str:
    """The interval of a ratio, or why it has none."""
    if not ratio.share_interval:
        return "no interval: in a resample there is nothing to divide by"
    return f"95 % interval {ratio.share_interval} %"


def standing(content: StudyContent) -> str:
    """At how many widths the nested model pays no tax."""
    ratios = content.figures(VERSUS_SEPARATE, LEAD, "nested")
    if not ratios:
        return "No separately trained width has been measured yet."
    told = [ratio for ratio in ratios if ratio.verdict != MISSING]
    text = "Beside models trained at one width alone, the nested one "
    if told:
        counts = [sum(r.verdict == what for r in told) for what in ("above", "level", "below")]
        text += "is above at {}, level at {} and below at {} ".format(*counts)
        text += f"of {len(told)} widths"
        worst = min(told, key=lambda ratio: ratio.value)
        text += (
            f"; its lowest ratio of {LEAD}@{K} is {worst.value:.3f} at d{worst.granularity} "
            f"({worst.share_interval} %)"
        )
    if len(told) == len(ratios):
        return f"{text}."
    untold = ", ".join(f"d{r.granularity}" for r in ratios if r.verdict == MISSING)
    why = f"cannot be compared at {untold}, where a figure reaches 0 in a resample"
    return f"{text}; it {why}." if told else f"{text}{why}."
