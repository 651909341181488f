"""Requests of a part, their candidates and their truths: what a ranker learns from or is measured
with.

Every request stands at the moment of the first interaction that is to be predicted. Its history,
its candidates and all that its features are computed from lie before that.

Shape legend: Q requests, K candidates, M targets (jagged), R rows, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys.arrays import Float64, Int64
from recsys.data.histories import Histories, jagged_positions
from recsys.evaluation.held_out import HeldOut, held_out
from recsys.evaluation.metrics import ndcg, ranks_in, recall
from recsys.evaluation.protocol import Part
from recsys.rankers.examples import Examples, take
from recsys.rankers.features.making import FeatureMaker
from recsys.rankers.features.requests import Requests
from recsys.recipes.ranking.source import RankingSource
from recsys.retrieval.filters import Filters, make_filters, rows_of
from recsys.retrieval.funnel import Funnel
from recsys.serving.export import repeats_of

_BATCH = 256


@dataclass(frozen=True)
class Askers:
    """The users of a part: what they had, and what they took next."""

    histories: Histories
    vectors: np.ndarray
    """`[Q, D]`."""
    filters: Filters
    targets: Int64
    """`[M]`."""
    offsets: Int64
    """`[Q + 1]`."""
    moments: Int64 | None
    """`[Q]` of each user's first target; None: the data set has no times."""

    def __len__(self) -> int:
        return len(self.histories)

    def rows(self, rows: Int64) -> Askers:
        """Some of them, in that order."""
        places, offsets = jagged_positions(self.offsets[rows], self.offsets[rows + 1])
        return Askers(
            self.histories.rows(rows),
            self.vectors[rows],
            rows_of(self.filters, rows),
            self.targets[places],
            offsets,
            None if self.moments is None else self.moments[rows],
        )

    def found_by(self, funnel: Funnel) -> Requests:
        """Their candidates, as a funnel finds them."""
        parts = []
        for lo in range(0, len(self), _BATCH):
            rows = np.arange(lo, min(lo + _BATCH, len(self)))
            found = funnel.search(self.vectors[rows], None, rows_of(self.filters, rows))
            parts.append(found.items)
        return Requests(self.vectors, self.histories, np.concatenate(parts), self.moments)

    def per_user(self, items: Int64, scores: np.ndarray, k: int) -> tuple[Float64, Float64]:
        """`[Q]` ndcg@k and recall@k of scored items `[Q, K]`."""
        ranks = ranks_in(items, scores, self.targets, self.offsets, k)
        values = (metric(ranks, self.offsets, (k,))[:, 0] for metric in (ndcg, recall))
        return next(values), next(values)

    def reached(self, requests: Requests) -> Float64:
        """`[Q]` share of each user's targets among the candidates."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        hit = (requests.candidates[owners] == self.targets[:, None]).any(axis=1)
        shares: Float64 = np.bincount(owners, hit, len(self)) / np.diff(self.offsets)
        return shares


def askers_of(source: RankingSource, part: Part, most: int | None = None) -> Askers:
    """The users of a part.

    Args:
        source: the run.
        part: valid or test.
        most: users, evenly spread; None: all.

    Raises:
        ProtocolError: something in the model was fitted to that part.
    """
    loaded = source.loaded
    loaded.check_part(part)
    held = held_out(loaded.dataset, loaded.split, part)
    held = held if most is None else held.spread(most)
    return _askers(source, held)


def _askers(source: RankingSource, held: HeldOut) -> Askers:
    dataset = source.loaded.dataset
    histories = held.histories(dataset, np.arange(len(held.users)))
    repeats = None if source.protocol.filter_seen else repeats_of(source.loaded.model)
    seen = (histories.items, histories.offsets) if repeats != {} else None
    return Askers(
        histories=histories,
        vectors=source.user_vectors(histories),
        filters=make_filters(len(histories), dataset.num_items, seen=seen, repeats=repeats or None),
        targets=held.targets.astype(np.int64),
        offsets=held.offsets,
        moments=dataset.timestamps_at(held.end),
    )


@dataclass(frozen=True)
class LabelledRows:
    """Rows to learn from, and what was left out."""

    examples: Examples
    requests: Int64
    """Places of their users among the askers."""
    told: dict[str, int]


def labelled_rows(
    askers: Askers, requests: Requests, maker: FeatureMaker, missed: float = 0.0
) -> LabelledRows:
    """The candidates of all users with a target among them, with labels.

    Args:
        askers: the users.
        requests: their candidates.
        maker: of the features.
        missed: weight of the targets that the funnel has not found; 0: they are left out.
    """
    owners = np.repeat(np.arange(len(askers)), np.diff(askers.offsets))
    hit = (requests.candidates[owners] == askers.targets[:, None]).any(axis=1)
    told = {"users": len(askers), "targets": len(hit), "targets found": int(hit.sum())}
    width = requests.candidates.shape[1]
    if missed > 0:
        more = _with_missed(requests.candidates, owners[~hit], askers.targets[~hit])
        requests = replace(requests, candidates=more)
    found = _is_target(askers, requests.candidates)
    weights = np.where(np.arange(found.shape[1]) < width, 1.0, missed).astype(np.float32)
    some = np.flatnonzero(found.any(axis=1))
    chosen = requests.rows(some)
    rows, present = maker.examples(chosen), chosen.present
    told |= {"users with rows": len(some), "rows": len(rows.numbers)}
    return LabelledRows(
        replace(
            rows,
            labels=found[some][present].astype(np.float32),
            weights=np.broadcast_to(weights, present.shape)[present] if missed > 0 else None,
        ),
        some,
        told,
    )


def folds_of(count: int, folds: int, seed: int) -> Int64:
    """`[count]` the group of each request, 0 to `folds - 1`, of equal sizes, drawn by the seed."""
    groups = np.arange(count) % folds
    return np.random.default_rng(seed).permutation(groups)


def part_of(examples: Examples, chosen: np.ndarray) -> Examples:
    """The requests where `chosen [Q]` is true."""
    return take(examples, np.flatnonzero(chosen))


def _is_target(askers: Askers, candidates: Int64) -> np.ndarray:
    """`[Q, K]` which candidates are targets of their user."""
    num_items = askers.filters.num_items
    owners = np.repeat(np.arange(len(askers)), np.diff(askers.offsets))
    keys = owners * num_items + askers.targets
    asked = np.arange(len(askers))[:, None] * num_items + candidates
    found: np.ndarray = np.isin(asked, keys) & (candidates >= 0)
    return found


def _with_missed(candidates: Int64, owners: Int64, items: Int64) -> Int64:
    """Candidates with missed targets behind them, `owners` ascending."""
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    more = np.full((len(candidates), int(places.max(initial=-1)) + 1), -1, np.int64)
    more[owners, places] = items
    return np.concatenate([candidates, more], axis=1)
