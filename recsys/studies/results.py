"""`recsys study --results FILE`: keeps the figures of a study as a results file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from recsys.errors import RunError
from recsys.recipes.evaluating.results import Origin
from recsys.reports.results.record import Figure
from recsys.studies.panel.config import BEFORE
from recsys.studies.panel.figures import PanelFigures
from recsys.studies.panel.verb import PanelResult
from recsys.studies.report.content import LEAD, MEAN, RETENTION, VERSUS_SEPARATE, K, StudyContent
from recsys.studies.report.content import Figure as StudyFigure
from recsys.studies.report.tables import TablesContent
from recsys.studies.tables.verb import TableStudyResult
from recsys.studies.verb import StudyResult


def keep_study(origin: Origin, result: StudyResult | TableStudyResult | PanelResult) -> None:
    """Keeps the means over seeds, and what nested vectors keep; or every table at full width.

    Raises:
        RunError: nothing has been measured yet.
    """
    content = result.content
    if content is None:
        raise RunError(f"nothing of {result.folder} has been measured yet; train it")
    if isinstance(content, PanelFigures):
        rows, card = panel_rows(content), None
    elif isinstance(content, StudyContent):
        rows, card = study_rows(content), content.card
    else:
        rows, card = tables_rows(content), content.card
    seeds = tuple(dict.fromkeys(state.run.seed for state in result.states))
    replace(origin, seeds=seeds).write(list(rows), card)


def study_rows(content: StudyContent) -> Iterator[Figure]:
    """ndcg@10 of every method by bytes, and nested vectors beside full and separate ones.

    Widths between the granularities stand on the study's own page alone. Figures have the digits of
    a page, as those of a panel have.
    """
    nested = content.figures(MEAN, LEAD, "nested")
    trained = {each.granularity for each in nested if each.trained} or {content.full}
    for method in content.methods:
        for each in content.figures(MEAN, LEAD, method):
            if each.granularity not in trained:
                continue
            name = f"{content.labels[method]} {each.setting}".strip()
            place = {"name": name, "granularity": each.granularity}
            yield Figure(**place, metric="bytes", unit="bytes", value=each.num_bytes)
            yield Figure(**place, metric=f"{LEAD}@{K}", **_told(each))
    ratios = ((RETENTION, "keeps", "share"), (VERSUS_SEPARATE, "over separate", "times"))
    for what, metric, unit in ratios:
        for each in content.figures(what, LEAD, "nested"):
            if each.granularity in trained:
                place = {"name": content.labels["nested"], "granularity": each.granularity}
                yield Figure(**place, metric=metric, unit=unit, **_told(each))


def _told(each: StudyFigure) -> dict[str, float]:
    given = {"value": each.value, "low": each.low, "high": each.high}
    return {name: _short(value, 4) for name, value in given.items() if value is not None}


def tables_rows(content: TablesContent) -> Iterator[Figure]:
    """Bytes, ndcg@10 and what is kept of the dense table, at full width."""
    wanted = (pl.col("k") == K) & (pl.col("metric") == LEAD)
    full = content.figures.filter(wanted & (pl.col("granularity") == content.sizes[-1]))
    for row in full.iter_rows(named=True):
        name = row["table"] if row["share"] == 1 else f"{row['table']}, {row['share']:g}"
        yield Figure(name=name, metric="bytes", unit="share", value=row["byte_share"])
        told = {"value": row["value"], "low": row["low"], "high": row["high"]}
        yield Figure(name=name, metric=f"{LEAD}@{K}", **told)
        if row["kept"] is not None:
            kept = {"value": row["kept"], "low": row["kept_low"], "high": row["kept_high"]}
            yield Figure(name=name, metric="keeps", unit="share", **kept)


def panel_rows(content: PanelFigures) -> Iterator[Figure]:
    """What the recipe before reaches, what every lever gains over it, and choices with a data set
    left out.

    A panel has many figures, so they are rounded to the digits of a page; what follows from them (a
    lever's own ndcg@10, and what is kept of the full width) is left out.
    """
    for row in content.frame.iter_rows(named=True):
        place = {"name": f"{row['lever']} on {row['data']}", "granularity": row["granularity"]}
        if row["lever"] != BEFORE:
            told = {name: _short(row[of], 3) for name, of in _GAIN.items()}
            yield Figure(**place, metric="gain", unit="share", **told)
        elif row["value"] is not None:
            yield Figure(**place, metric=f"{LEAD}@{K}", value=_short(row["value"], 4))
    for each in content.left_out:
        name = f"{each.lever}, chosen without {each.data}"
        yield Figure(name=name, metric="gain there", unit="share", value=_short(each.gain, 3))


_GAIN = {"value": "gain", "low": "low", "high": "high"}


def _short(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
