"""`recsys verify BUNDLE --run RUN`: what a bundle finds, beside the evaluation of its run.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.data.dataset import Int64
from recsys.errors import ConfigError, RunError
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metrics import ndcg
from recsys.evaluation.protocol import find_protocol
from recsys.evaluation.recommend import recommend
from recsys.evaluation.tradeoff import Queries, ranks_in
from recsys.recipes.queries import queries_of, sample
from recsys.recipes.run import LoadedRun
from recsys.retrieval.bundle import Bundle, load_bundle
from recsys.retrieval.encoding import Float32
from recsys.retrieval.filters import Filters
from recsys.retrieval.funnel import Funnel, Stage, parse_stages

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Parity:
    """A bundle beside its run, over the users of the test part."""

    num_users: int
    k: int
    exact: bool
    """All its tiers are fp32: it must give the run's own lists."""
    stage_difference: float
    """Largest difference of any stage's score from the truncated dot product of what is stored,
    in float64; a share of the sum of the products' sizes."""
    lists_of_exact: int
    """Users whose list by stages that keep every item is that of exact search."""
    lists_of_run: int
    """Users whose list by exact search of the bundle is the one the run's evaluation ranks."""
    score_difference: float
    """Largest difference of a listed score from the run's own; a share as above."""
    ndcg: float
    """Of exact search of the bundle."""
    ndcg_of_run: float
    """Of the run's own lists."""

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        of_bundle = self.stage_difference <= TOLERANCE and self.lists_of_exact == self.num_users
        of_run = self.score_difference <= TOLERANCE and self.lists_of_run == self.num_users
        return of_bundle and (of_run or not self.exact)

    def lines(self) -> list[str]:
        """What was found, in words."""
        users = f"{self.num_users:,} users"
        return [
            f"scores of all stages: truncated dot products to {self.stage_difference:.1e}",
            f"stages that keep all items: the first {self.k} of exact search for "
            f"{self.lists_of_exact:,} of {users}",
            f"the run's own evaluation: the same first {self.k} for {self.lists_of_run:,} of "
            f"{users}, scores to {self.score_difference:.1e}, ndcg@{self.k} "
            f"{self.ndcg:.6f} and {self.ndcg_of_run:.6f}"
            + ("" if self.exact else " (its codecs round)"),
        ]


def compare_with_run(
    bundle: str | Path,
    run: str | Path,
    *,
    num_users: int | None = 2000,
    k: int = 10,
    threads: int | None = None,
) -> Parity:
    """Searches a bundle for the users of its run's test part, in three ways.

    By the stages it was made for, every score against the dot product of the stored prefixes; by
    the same stages keeping every item, against exact search; and by exact search, against what the
    run's own evaluation ranks first.

    Args:
        bundle: that was exported from `run`.
        run: the run.
        num_users: evenly spread; None: all.
        k: K.
        threads: of the searches; None: all cores.

    Raises:
        ConfigError: the bundle holds other items, or less than the run's coordinates.
        RunError, DataError, ChecksumError: one of them cannot be read.
    """
    opened, loaded = load_bundle(bundle), LoadedRun(run)
    queries = queries_of(loaded, "test", None, num_users)
    if queries.filters.repeats is not None:  # what the bundle tells, not what the run knows
        filters = replace(queries.filters, repeats=opened.manifest.repeats)
        queries = replace(queries, filters=filters)
    dim = loaded.model.granularities.embedding_dim
    if (opened.num_items, opened.dim) != (loaded.dataset.num_items, dim):
        raise ConfigError(
            f"{bundle} holds {opened.num_items} items of {opened.dim} coordinates, {run} "
            f"{loaded.dataset.num_items} of {dim}; name the run it was exported from"
        )
    stages = parse_stages(opened.manifest.stages or ",".join(map(str, _sizes(opened))), k)
    everything = [*(Stage(s.granularity, opened.num_items) for s in stages[:-1]), stages[-1]]
    own = _lists_of_run(loaded, num_users, k)
    found, scores = _search(Funnel(opened, [Stage(dim, k)], threads=threads), queries)
    kept, _ = _search(Funnel(opened, everything, threads=threads), queries)
    items = loaded.model.item_vectors().detach().float().numpy()
    norms = np.linalg.norm(items, axis=1) if opened.normalize else None
    assert queries.targets is not None and queries.offsets is not None
    truth = queries.targets, queries.offsets
    return Parity(
        num_users=len(queries),
        k=k,
        exact=all(tier.codec == "fp32" for tier in opened.manifest.items.tiers),
        stage_difference=_stage_difference(opened, stages, queries, threads),
        lists_of_exact=int((found == kept).all(axis=1).sum()),
        lists_of_run=int((found == own).all(axis=1).sum()),
        score_difference=_difference(
            items, norms, queries.users, found, scores, dim, queries.filters
        ),
        ndcg=float(ndcg(ranks_in(found, *truth), truth[1], (k,)).mean()),
        ndcg_of_run=float(ndcg(ranks_in(own, *truth), truth[1], (k,)).mean()),
    )


def _sizes(bundle: Bundle) -> list[str]:
    """All its granularities as stages; every item goes on."""
    *short, last = bundle.manifest.sizes
    return [*(f"{size}:{bundle.num_items}" for size in short), str(last)]


def _lists_of_run(loaded: LoadedRun, num_users: int | None, k: int) -> Int64:
    """`[B, K]` as the run's evaluation ranks."""
    held = held_out(loaded.dataset, loaded.split, "test")
    histories = held.histories(loaded.dataset, sample(len(held.users), num_users))
    seen = find_protocol(loaded.config.protocol).filter_seen
    return recommend(loaded.model, histories, loaded.dataset.num_items, k=k, filter_seen=seen)


def _search(funnel: Funnel, queries: Queries) -> tuple[Int64, Float32]:
    """`[B, K]` items and scores of all users."""
    found = [funnel.search(users, None, filters) for users, filters in queries.batches()]
    return (
        np.concatenate([one.items for one in found]),
        np.concatenate([one.scores for one in found]),
    )


def _stage_difference(
    bundle: Bundle, stages: Sequence[Stage], queries: Queries, threads: int | None
) -> float:
    """Largest difference of a stage's scores from the dot products of the stored prefixes."""
    funnel, worst = Funnel(bundle, stages, threads=threads), 0.0
    items = bundle.items.decode(slice(None), 0, bundle.dim)
    for users, filters in queries.batches():
        for stage, found in zip(stages, funnel.trace(users, filters), strict=True):
            size = stage.granularity
            norms = bundle.norms(size)
            listed = found.items, found.scores
            worst = max(worst, _difference(items, norms, users, *listed, size, filters))
    return worst


def _difference(
    items: Float32,
    norms: Float32 | None,
    users: Float32,
    listed: Int64,
    scores: Float32,
    size: int,
    filters: Filters,
) -> float:
    """Largest difference of `scores [B, n]` from dot products in float64, -1 left out.

    A share of the sum of the sizes of what was added up: what float32 can promise. To that belongs
    what the model adds to the score of what a user has had, where that is not filtered.

    Raises:
        RunError: a score is not finite.
    """
    worst = 0.0
    histories = np.split(filters.seen, filters.offsets[1:-1])
    given_rows = zip(users[:, :size].astype(np.float64), listed, scores, histories, strict=True)
    for user, row, given, had in given_rows:
        shown = row >= 0
        gain = filters.added(size)
        gain *= 1.0 if norms is None else float(np.linalg.norm(user))
        gains = gain * np.isin(row[shown], had)
        products = items[row[shown], :size] * user
        factors = 1.0 if norms is None else 1.0 / norms[row[shown]].astype(np.float64)
        sizes = np.abs(products).sum(axis=1) * factors + np.abs(gains)
        if not np.isfinite(given[shown]).all():
            raise RunError("the bundle gives scores that are not finite; export it again")
        gaps = np.abs(products.sum(axis=1) * factors + gains - given[shown])
        worst = max(worst, float((gaps / np.maximum(sizes, 1e-30)).max(initial=0)))
    return worst
