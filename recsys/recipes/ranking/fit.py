"""`recsys rank fit`: a ranker of the funnel's own candidates, without rows that know too much.

A retrieval model has seen its training interactions, so its scores of them are better than its
scores of what comes next, and a ranker that learns from them trusts these scores too much. So the
rows are those of the validation part, which retrieval was not trained on; the honest figure is
cross-fitted over users. With `rows.earlier` they come from a run that was trained on less.

Shape legend: Q requests, K candidates, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import Float32, Float64
from recsys.data.dataset import Dataset
from recsys.errors import ConfigError, DataError, ProtocolError
from recsys.evaluation.bootstrap import resample_often
from recsys.files.atomic import atomic_path, check_writable
from recsys.progress import progress
from recsys.rankers.base import Ranker
from recsys.rankers.examples import Examples, Schema, take
from recsys.rankers.features.making import FeatureMaker
from recsys.rankers.features.requests import Requests
from recsys.rankers.fitted import (
    MANIFEST,
    FittedRanker,
    RankerManifest,
    schema_entry,
    write_ranker,
)
from recsys.recipes.ranking.bundles import attach_ranker, deployed_knowledge
from recsys.recipes.ranking.config import RankConfig, RowsConfig, read_rank_config
from recsys.recipes.ranking.knowing import training_knowledge
from recsys.recipes.ranking.rows import Askers, LabelledRows, askers_of, folds_of, labelled_rows
from recsys.recipes.ranking.source import RankingSource, open_ranking
from recsys.reports.ranking.content import Fit
from recsys.retrieval.score_hash import score_hash
from recsys.runs.folder import check_empty
from recsys.runs.loading import LoadedRun

RANKERS_FOLDER = "rankers"
_FEWEST = 50
"""Users with a target among their candidates, in training rows."""
K = 10


@dataclass(frozen=True)
class _Learning:
    """The validation part of a run as rows."""

    source: RankingSource
    askers: Askers
    requests: Requests
    maker: FeatureMaker
    rows: LabelledRows


def rank_fit(
    source: str | Path | LoadedRun,
    config: str | Path | RankConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    run: str | Path | LoadedRun | None = None,
    out: str | Path | None = None,
    show: Callable[[Fit], None] = lambda _: None,
) -> Fit:
    """Fits a ranker on the candidates of a run or of a bundle.

    Args:
        source: a run, whose ranker becomes a folder; or a bundle, of which a new version with the
            ranker is written.
        config: a YAML file or a config object; None: the defaults.
        overrides: `key=value` changes.
        run: of a bundle: the run it was exported from, with its data set.
        out: folder of the ranker; None: `RUN/rankers/NAME`, of a bundle the bundle alone.
        show: called with what was found before it is written.

    Raises:
        RunError, DataError, ProtocolError: the source or the earlier run cannot be read, its
            validation part was fitted to, or something else than a ranker stands at `out`.
        InstallationError: what the ranker is fitted with is missing.
        ConfigError, GranularityError: the config cannot be.
    """
    settings = read_rank_config(config, overrides)
    settings.ranker.check_installed()
    opened = open_ranking(source, settings.candidates, run=run)
    _check_unseen(opened.loaded)
    place = Path(out) if out else opened.loaded.folder / RANKERS_FOLDER / settings.ranker.name
    if opened.bundle is None or out is not None:
        _check_place(place)
    earlier = _earlier(opened, settings)
    learning = _learning(opened, settings)
    if earlier is None:
        ranker, scores = _cross_fitted(learning, settings)
    else:
        ranker, scores = _fitted_earlier(learning, settings, earlier)
    before, after = _figures(learning, scores)
    lift = resample_often(np.stack([before, after], axis=1)).paired(0, 1)
    told: dict[str, Any] = dict(learning.rows.told)
    found = Fit(place, ranker, float(before.mean()), float(after.mean()), lift, told)
    show(found)
    fitted = _complete(opened, settings, found, learning.maker.schema)
    if opened.bundle is not None:
        shelf = Path(str(source))
        found = replace(found, folder=attach_ranker(fitted, opened.bundle, shelf))
    if opened.bundle is None or out is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as temporary:
            temporary.mkdir()
            write_ranker(temporary, fitted)
    return found


def _check_unseen(loaded: LoadedRun) -> None:
    """Raises ProtocolError where a run knows the validation part, which rankers learn from."""
    if loaded.fit_on != "train":
        raise ProtocolError(
            f"{loaded.folder} was fitted on {loaded.fit_on}, and a ranker learns from a validation "
            "part that is new to the run; name a run with fit_on=train"
        )


def _check_place(place: Path) -> None:
    """Raises RunError where something else than a ranker stands, which would be replaced."""
    if (place / MANIFEST).is_file():
        check_writable(place, folder=True)
    else:
        check_empty(place, "folder of the ranker")


def _earlier(source: RankingSource, settings: RankConfig) -> RankingSource | None:
    """The earlier run that is learned from, if there is one."""
    if settings.rows.earlier is None:
        return None
    found = open_ranking(settings.rows.earlier, settings.candidates)
    _check_unseen(found.loaded)
    _check_same_ids(found.loaded.dataset, source.loaded.dataset)
    return found


def _learning(source: RankingSource, settings: RankConfig) -> _Learning:
    dataset, split = source.loaded.dataset, source.loaded.split
    knowledge = training_knowledge(dataset, split, settings.features)
    maker = FeatureMaker(settings.features, knowledge, source.items)
    askers = askers_of(source, "valid", settings.rows.most)
    requests = askers.found_by(source.funnel())
    rows = labelled_rows(askers, requests, maker, settings.rows.missed)
    if rows.told["users with rows"] < _FEWEST:
        raise DataError(
            f"{rows.told['users with rows']} users of the validation part of "
            f"{source.loaded.folder} have a target among their {source.keep} candidates, too few "
            f"to learn from ({_FEWEST}); keep more candidates (candidates.keep), or train "
            "retrieval longer"
        )
    return _Learning(source, askers, requests, maker, rows)


def _cross_fitted(learning: _Learning, settings: RankConfig) -> tuple[Ranker, Float32]:
    """The final ranker; and scores `[Q, K]` of each user by a ranker fitted on others.

    Of three groups of users one is ranked, one says when to stop, the others are learned from.
    """
    options = settings.rows
    groups = folds_of(len(learning.askers), options.folds, settings.seed)
    of_rows = groups[learning.rows.requests]
    schema, rows = learning.maker.schema, learning.rows.examples
    scores = np.full(learning.requests.candidates.shape, -np.inf, np.float32)

    def fitted(left_out: Sequence[int], stop: int) -> Ranker:
        learned = take(rows, np.flatnonzero(~np.isin(of_rows, [*left_out, stop])))
        checked = take(rows, np.flatnonzero(of_rows == stop))
        _check(learned, checked, options)
        return settings.ranker.fit(schema, learned, checked, settings.seed)

    with progress() as bar:
        task = bar.add_task("rankers of groups of users", total=options.folds + 1)
        for group in range(options.folds):
            stop = (group + 1) % options.folds
            ranker = fitted([group], stop)
            chosen = np.flatnonzero(groups == group)
            part = learning.requests.rows(chosen)
            found = np.full(part.candidates.shape, -np.inf, np.float32)
            found[part.present] = ranker.scores(learning.maker.examples(part))
            scores[chosen] = found
            bar.advance(task)
        final = fitted([], options.folds - 1)
        bar.advance(task)
    return final, scores


def _check(learned: Examples, checked: Examples, options: RowsConfig) -> None:
    if min(learned.num_requests, checked.num_requests) < 2:
        raise ConfigError(
            f"rows.folds={options.folds} leaves {learned.num_requests} users to learn from and "
            f"{checked.num_requests} to stop by; choose fewer groups"
        )


def _fitted_earlier(
    learning: _Learning, settings: RankConfig, source: RankingSource
) -> tuple[Ranker, Float32]:
    """A ranker fitted on what followed the earlier run's training; and its scores `[Q, K]`."""
    earlier = _learning(source, settings)
    schema = learning.maker.schema
    if earlier.maker.schema != schema:
        raise ConfigError(
            f"{settings.rows.earlier} gives other features than {learning.source.loaded.folder}; "
            "train both with the same granularities, on the same columns"
        )
    ranker = settings.ranker.fit(
        schema, earlier.rows.examples, learning.rows.examples, settings.seed
    )
    learning.rows.told.update({f"earlier {k}": v for k, v in earlier.rows.told.items()})
    scores = np.full(learning.requests.candidates.shape, -np.inf, np.float32)
    scores[learning.requests.present] = ranker.scores(learning.maker.examples(learning.requests))
    return ranker, scores


def _check_same_ids(one: Dataset, other: Dataset) -> None:
    if not one.item_frame()["item_id"].equals(other.item_frame()["item_id"]):
        raise ConfigError(
            f"{one.folder} has other items than {other.folder}; make the earlier run with `recsys "
            "rank earlier`"
        )


def _figures(learning: _Learning, scores: Float32) -> tuple[Float64, Float64]:
    """`[Q]` ndcg@10 of the funnel's order, and of the ranker's."""
    items = learning.requests.candidates
    places = np.where(items >= 0, -np.arange(items.shape[1]), -np.inf).astype(np.float32)
    first, _ = learning.askers.per_user(items, places, K)
    second, _ = learning.askers.per_user(items, scores, K)
    return first, second


def _complete(
    source: RankingSource, settings: RankConfig, found: Fit, schema: Schema
) -> FittedRanker:
    """The ranker with what is known today."""
    manifest = RankerManifest(
        recsys_version=version("recsys"),
        ranker=settings.ranker.model_dump(mode="json"),
        features=settings.features,
        columns=schema_entry(schema),
        stages=source.stages,
        keep=source.keep,
        tiers=settings.candidates.tiers,
        scores=score_hash(source.items),
        seed=settings.seed,
        run=source.loaded.name,
        data={
            "name": source.loaded.dataset.manifest.name,
            "content_hash": source.loaded.dataset.manifest.content_hash,
        },
        fitted=found.told
        | {
            "rows": "validation part" if settings.rows.earlier is None else "an earlier run",
            "ndcg@10 of dot products": found.before,
            "ndcg@10": found.after,
        },
        files={},
    )
    known = deployed_knowledge(source.loaded.dataset, settings.features)
    return FittedRanker(manifest, found.ranker, known)
