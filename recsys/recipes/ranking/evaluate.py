"""`recsys rank evaluate`: both stages end to end, beside retrieval's own order.

Shape legend: Q users, K candidates, N items.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.arrays import Float32, Float64
from recsys.errors import ConfigError, RunError
from recsys.evaluation.bootstrap import PairedDifference, Resampled, resample_often
from recsys.evaluation.protocol import Part, ProtocolCard, find_protocol, make_card
from recsys.files.atomic import check_writable
from recsys.progress import progress
from recsys.rankers.features.requests import Requests
from recsys.rankers.fitted import MANIFEST, FittedRanker, Ranking, load_ranker
from recsys.rankers.neural.onnx_ranker import OnnxRanker
from recsys.recipes.ranking.config import CandidatesConfig
from recsys.recipes.ranking.knowing import training_knowledge
from recsys.recipes.ranking.rows import Askers, askers_of
from recsys.recipes.ranking.source import RankingSource, open_ranking
from recsys.reports.ranking.content import RANKING, RankedRow, RankingContent, write_ranking
from recsys.retrieval.filters import rows_of
from recsys.retrieval.funnel import Funnel
from recsys.retrieval.score_hash import score_hash
from recsys.runs.loading import LoadedRun, open_run

K = 10
EXACT = "exact search"
DOT = "dot products"
_SINGLES = 15
_BATCH = 256


@dataclass(frozen=True)
class Sweeping:
    """The funnels that rankers are measured behind, beside the one each was fitted on."""

    granularities: tuple[int, ...] = ()
    """Of the candidates; all coordinates then give the order of dot products."""
    keeps: tuple[int, ...] = ()
    """Candidates; none: those of the ranker."""
    num_users: int | None = None
    """Evenly spread. None: all."""
    whole: int = 0
    """Users, evenly spread, for whom the ranker also orders the whole catalogue."""


SWEEPING = Sweeping()


@dataclass(frozen=True)
class _Measured:
    """A way to rank, with the figures of each user."""

    row: RankedRow
    ndcg: Float64
    recall: Float64
    beside: int | None
    """Place of the dot products' order of the same candidates; None: it is one itself."""


def rank_evaluate(
    run: str | Path | LoadedRun,
    rankers: Sequence[str | Path] = (),
    *,
    bundle: str | Path | None = None,
    part: Part = "test",
    sweeping: Sweeping = SWEEPING,
    out: str | Path | None = None,
    show: Callable[[RankingContent], None] = lambda _: None,
) -> RankingContent:
    """Measures rankers on the candidates of their funnels, and of others.

    Args:
        run: the run of the rankers.
        rankers: their folders; none: all in `RUN/rankers`.
        bundle: measure candidates of this bundle, whose scores the rankers were fitted on.
        part: valid or test.
        sweeping: further funnels.
        out: folder of the table; None: `RUN/ranking`.
        show: called with what was found before it is written.

    Returns:
        The table: exact search, then for each funnel its own order and every ranker's, at each
        width that the ranker was trained at.

    Raises:
        RunError: there are no rankers.
        ConfigError: a ranker was fitted on other scores.
        ProtocolError: something in the model was fitted to that part.
    """
    loaded = open_run(run)
    loaded.check_part(part)
    place = Path(out) if out else loaded.folder / RANKING
    check_writable(place, folder=True)
    folders = [Path(each) for each in rankers] or _rankers_of(loaded.folder)
    for folder in folders:  # before any is measured
        _source_of(loaded, bundle, load_ranker(folder))
    measured: list[_Measured] = []
    with progress() as bar:
        task = bar.add_task("rankers", total=len(folders))
        for folder in folders:
            fitted = load_ranker(folder)
            source = _source_of(loaded, bundle, fitted)
            askers = askers_of(source, part, sweeping.num_users)
            if not measured:
                measured.append(_exact(loaded, askers))
            ways = _widths(folder.name, _at(source, fitted, loaded))
            for stages, keep in _funnels(source, fitted, sweeping):
                for name, ranking in ways.items():
                    _measure(measured, source, askers, ranking, (stages, keep, name))
            if sweeping.whole:
                for name, ranking in ways.items():
                    measured.append(_whole(source, askers, ranking, name, sweeping.whole))
            bar.advance(task)
    content = _content(loaded, part, measured)
    show(content)
    write_ranking(place, content)
    return content


def _rankers_of(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in (folder / "rankers").glob(f"*/{MANIFEST}"))
    if not found:
        raise RunError(f"{folder} has no rankers; fit one with `recsys rank fit {folder} CONFIG`")
    return found


def _source_of(loaded: LoadedRun, bundle: str | Path | None, fitted: FittedRanker) -> RankingSource:
    manifest = fitted.manifest
    candidates = CandidatesConfig(keep=manifest.keep, stages=manifest.stages, tiers=manifest.tiers)
    source = (
        open_ranking(loaded, candidates)
        if bundle is None
        else open_ranking(bundle, candidates, run=loaded)
    )
    if score_hash(source.items) != manifest.scores:
        raise ConfigError(
            f"the ranker {manifest.ranker.get('name')} was fitted on other scores than those of "
            f"{bundle or loaded.folder}; fit it again (`recsys rank fit`)"
        )
    return source


def _at(source: RankingSource, fitted: FittedRanker, loaded: LoadedRun) -> Ranking:
    """By what is known of the training part, as retrieval is."""
    known = training_knowledge(loaded.dataset, loaded.split, fitted.manifest.features)
    return fitted.on(source.items, known)


def _widths(name: str, ranking: Ranking) -> dict[str, Ranking]:
    """The ranker as it serves, and at the other widths that it was trained at."""
    ranker = ranking.ranker
    if not isinstance(ranker, OnnxRanker):
        return {name: ranking}
    others = [share for share in reversed(ranker.widths) if share != ranker.share]
    narrower = {f"{name} at {share:g}": ranker.at(share) for share in others}
    return {name: ranking} | {at: replace(ranking, ranker=r) for at, r in narrower.items()}


def _funnels(
    source: RankingSource, fitted: FittedRanker, sweeping: Sweeping
) -> Iterator[tuple[str, int]]:
    """Stages and keeps, nothing twice; the ranker's own first."""
    own = (fitted.manifest.stages, fitted.manifest.keep)
    ways = dict.fromkeys([own])
    dim = source.items.sizes[-1]
    keeps = sweeping.keeps or (own[1],)
    for size in sweeping.granularities or ((dim,) if sweeping.keeps else ()):
        source.items.check_size(size)
        for keep in keeps:
            kept = min(keep, source.items.num_items)
            ways[(f"{size}:{kept},{dim}" if size < dim else str(dim), kept)] = None
    yield from ways


def _exact(loaded: LoadedRun, askers: Askers) -> _Measured:
    """Every item by dot products at full width, in float32."""
    source = open_ranking(loaded, CandidatesConfig(keep=K + 1))
    requests = askers.found_by(source.funnel())
    ndcg, recall = askers.per_user(requests.candidates, _own_order(requests), K)
    work = float(source.items.num_items * source.items.sizes[-1])
    row = RankedRow(EXACT, source.stages, source.items.num_items, multiply_adds=work)
    return _Measured(row, ndcg, recall, None)


def _measure(
    measured: list[_Measured],
    source: RankingSource,
    askers: Askers,
    ranking: Ranking,
    what: tuple[str, int, str],
) -> None:
    """Adds the funnel's own order, unless it stands there, and the ranker's."""
    stages, keep, name = what
    funnel = source.funnel(stages, keep)
    requests = askers.found_by(funnel)
    reached = float(askers.reached(requests).mean())
    codecs = "+".join(tier.spec.codec for tier in source.items.items.parts)
    row = RankedRow(DOT, stages, keep, codecs, reached, multiply_adds=funnel.multiply_adds())
    beside = next(
        (
            n
            for n, each in enumerate(measured)
            if each.row.same_funnel(row) and each.row.name == DOT
        ),
        None,
    )
    if beside is None:
        beside = len(measured)
        ndcg, recall = askers.per_user(requests.candidates, _own_order(requests), K)
        milliseconds = _milliseconds(askers, funnel, None)
        measured.append(_Measured(replace(row, ms=milliseconds), ndcg, recall, None))
    scores = scores_in_blocks(ranking, requests)
    ndcg, recall = askers.per_user(requests.candidates, scores, K)
    work = row.multiply_adds + keep * ranking.ranker.multiply_adds()
    milliseconds = _milliseconds(askers, funnel, ranking)
    ranked = replace(row, name=name, multiply_adds=work, ms=milliseconds)
    measured.append(_Measured(ranked, ndcg, recall, beside))


def _whole(
    source: RankingSource, askers: Askers, ranking: Ranking, name: str, count: int
) -> _Measured:
    """The ranker's order of the whole catalogue, for some of the users; the others count as NaN."""
    chosen = np.unique(np.linspace(0, len(askers) - 1, min(count, len(askers))).astype(np.int64))
    some = askers.rows(chosen)
    dim, num_items = source.items.sizes[-1], source.items.num_items
    requests = some.found_by(source.funnel(str(dim), num_items))
    scores = scores_in_blocks(ranking, requests)
    found = some.per_user(requests.candidates, scores, K)
    ndcg, recall = (np.full(len(askers), np.nan) for _ in range(2))
    ndcg[chosen], recall[chosen] = found
    work = num_items * (dim + ranking.ranker.multiply_adds())
    row = RankedRow(f"{name}, whole catalogue", str(dim), num_items, multiply_adds=work)
    return _Measured(replace(row, num_users=len(chosen)), ndcg, recall, None)


def scores_in_blocks(ranking: Ranking, requests: Requests) -> Float32:
    """`[Q, K]`, a block of requests after another: features of all would not fit in memory."""
    at_once = max(1, (_BATCH * 200) // max(1, requests.candidates.shape[1]))
    parts = []
    with progress() as bar:
        task = bar.add_task("ranking", total=len(requests))
        for lo in range(0, len(requests), at_once):
            rows = np.arange(lo, min(lo + at_once, len(requests)))
            parts.append(ranking.scores(requests.rows(rows)))
            bar.advance(task, len(rows))
    return np.concatenate(parts)


def _own_order(requests: Requests) -> Float32:
    """`[Q, K]` scores that keep the funnel's order."""
    places = np.arange(requests.candidates.shape[1], dtype=np.float32)
    return np.where(requests.present, -places, np.float32(-np.inf))


def _milliseconds(askers: Askers, funnel: Funnel, ranking: Ranking | None) -> float:
    """Median of some users, one at a time: search, features and ranker."""
    times = []
    for row in range(min(_SINGLES, len(askers))):
        one = np.array([row])
        vectors, filters = askers.vectors[one], rows_of(askers.filters, one)
        histories = askers.histories.rows(one)
        moments = None if askers.moments is None else askers.moments[one]
        started = time.perf_counter()
        found = funnel.search(vectors, None, filters)
        if ranking is not None:
            ranking.best(Requests(vectors, histories, found.items, moments), K)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def _content(loaded: LoadedRun, part: Part, measured: list[_Measured]) -> RankingContent:
    whole = [n for n, each in enumerate(measured) if not np.isnan(each.ndcg).any()]
    resampled = resample_often(np.stack([measured[n].ndcg for n in whole], axis=1))
    column = {n: place for place, n in enumerate(whole)}
    rows = [_row(measured, n, column, resampled) for n in range(len(measured))]
    return RankingContent(loaded.name, card_of(loaded, part), K, len(measured[0].ndcg), tuple(rows))


def card_of(loaded: LoadedRun, part: Part) -> ProtocolCard:
    """The protocol card of the figures."""
    preset = find_protocol(loaded.config.protocol)
    return make_card(loaded.dataset.manifest, preset, part, loaded.fit_on, loaded.split.rule)


def _row(
    measured: list[_Measured], place: int, column: dict[int, int], resampled: Resampled
) -> RankedRow:
    found = measured[place]
    row = replace(
        found.row, ndcg=float(np.nanmean(found.ndcg)), recall=float(np.nanmean(found.recall))
    )
    if place not in column:
        return row

    def beside(other: int | None) -> PairedDifference | None:
        if other is None or other == place:
            return None
        return resampled.paired(column[other], column[place])

    return replace(row, beside_dot=beside(found.beside), beside_exact=beside(0))
