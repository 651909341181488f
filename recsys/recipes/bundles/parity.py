"""`recsys verify BUNDLE --run RUN`: comparison of a bundle with its run.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError
from recsys.evaluation.agreement import Agreement, agreement, rounding, score_difference
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.evaluation.held_out import held_out, spread_over
from recsys.evaluation.metrics import ndcg, ranks_in
from recsys.evaluation.protocol import find_protocol
from recsys.evaluation.recommend import recommend
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.recipes.evaluating.queries import queries_of
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.funnel import Funnel, Stage, parse_stages
from recsys.runs.loading import LoadedRun, open_run


@dataclass(frozen=True)
class Parity:
    """Comparison of a bundle with its run, over the users of the test part."""

    num_users: int
    k: int
    size: int
    """D."""
    exact: bool
    """All its tiers are fp32: it must give the run's own lists."""
    stage_difference: float
    """Largest difference of any stage's score from the truncated dot product of what is stored,
    in float64; a share of the sum of the products' sizes."""
    stages: Agreement
    """Lists by stages that keep every item, beside those of exact search."""
    of_run: Agreement
    """Lists by exact search of the bundle, beside those the run's evaluation ranks."""
    score_difference: float
    """Largest difference of a listed score from the run's own; a share as above."""
    ndcg: float
    """Of exact search of the bundle."""
    ndcg_of_run: float
    """Of the run's own lists."""

    @property
    def tolerance(self) -> float:
        """What differences of scores may be."""
        return rounding(self.size)

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        return not self.failures()

    def failures(self) -> list[str]:
        """What is not as it must be, with what to do; empty where the bundle passes."""
        found = []
        if not self.stage_difference <= self.tolerance:
            found.append(
                f"a stage's score is off by {self.stage_difference:.1e} of what it adds up, where "
                f"float32 explains {self.tolerance:.1e}"
            )
        if not self.stages.holds:
            found.append(f"stages that keep all items are not exact search: {self.stages.worst}")
        if self.exact and not self.score_difference <= self.tolerance:
            found.append(
                f"a score differs from the run's by {self.score_difference:.1e} of what it adds "
                f"up, where float32 explains {self.tolerance:.1e}: the vectors are others"
            )
        if self.exact and not self.of_run.holds:
            found.append(f"the lists are not the run's: {self.of_run.worst}")
        return found

    def lines(self) -> list[str]:
        """What was found, in words: three comparisons, and the verdict."""
        rounded = "" if self.exact else "; its codecs round, so these may differ"
        failures = self.failures()
        verdict = [f"fails: {reason}" for reason in failures] or [
            "passes: the bundle finds what its run ranks"
            if self.exact
            else "passes: the bundle finds what it stores, which its codecs rounded"
        ]
        if failures:
            verdict.append("name the run it was exported from, or export it again")
        return [
            f"scores of all stages: truncated dot products to {self.stage_difference:.1e} (float32 "
            f"explains {self.tolerance:.1e})",
            f"stages that keep all items, beside exact search: first {self.k} {self.stages}",
            f"the run's own evaluation: first {self.k} {self.of_run}, scores to "
            f"{self.score_difference:.1e}, ndcg@{self.k} {self.ndcg:.6f} and "
            f"{self.ndcg_of_run:.6f}{rounded}",
            *verdict,
        ]


def compare_with_run(
    bundle: str | Path,
    run: str | Path | LoadedRun,
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
        run: the run folder, or an opened run.
        num_users: evenly spread; None: all.
        k: K.
        threads: of the searches; None: all cores.

    Raises:
        ConfigError: the bundle holds other items, or fewer coordinates than the run.
        RunError, DataError, ChecksumError: one of them cannot be read.
    """
    opened, loaded = load_bundle(bundle), open_run(run)
    queries = queries_of(loaded, "test", None, num_users)
    if queries.filters.repeats is not None:  # what the bundle tells, not what the run knows
        filters = replace(queries.filters, repeats=opened.manifest.repeats)
        queries = replace(queries, filters=filters)
    dim = loaded.model.granularities.embedding_dim
    _check_same_shape(opened, loaded, dim)
    stages = parse_stages(opened.manifest.stages or ",".join(map(str, _sizes(opened))), k)
    if len(stages) > 1 and stages[1].granularity <= stages[0].granularity:
        stages = stages[1:]  # the first stage is an index's, and nothing is scored by it
    everything = [*(Stage(s.granularity, opened.num_items) for s in stages[:-1]), stages[-1]]
    own = _lists_of_run(loaded, num_users, k)
    longer, its_scores = _search(Funnel(opened, [Stage(dim, k + 1)], threads=threads), queries)
    found, scores = longer[:, :k], its_scores[:, :k]
    kept, _ = _search(Funnel(opened, everything, threads=threads), queries)
    last = stages[-1].granularity  # a funnel need not end at the full width
    at_once = found if last == dim else _search(Funnel(opened, stages[-1:]), queries)[0]
    items = loaded.model.item_vectors().detach().float().cpu().numpy()
    norms = np.linalg.norm(items, axis=1).clip(1e-12) if opened.normalize else None
    stored = opened.items.decode(slice(None), 0, last)
    assert queries.targets is not None and queries.offsets is not None
    truth = queries.targets, queries.offsets
    return Parity(
        num_users=len(queries),
        k=k,
        size=dim,
        exact=all(tier.codec == "fp32" for tier in opened.manifest.items.tiers),
        stage_difference=_stage_difference(opened, stages, queries, threads),
        stages=agreement(kept, at_once, queries, stored, opened.norms(last)),
        of_run=agreement(found, own, queries, items, norms),
        score_difference=score_difference(
            items, norms, queries.users, found, scores, dim, queries.filters
        ),
        ndcg=float(ndcg(ranks_in(longer, its_scores, *truth, k), truth[1], (k,)).mean()),
        ndcg_of_run=_ndcg_of_run(loaded, num_users, k),
    )


def _check_same_shape(opened: Bundle, loaded: LoadedRun, dim: int) -> None:
    if opened.num_items == loaded.dataset.num_items and opened.dim < dim:
        raise ConfigError(
            f"{opened.folder} ends at {opened.dim} of the run's {dim} coordinates, by which its "
            f"evaluation ranks, so their lists cannot be compared; export with tiers up to {dim}, "
            "or verify without --run"
        )
    if (opened.num_items, opened.dim) != (loaded.dataset.num_items, dim):
        raise ConfigError(
            f"{opened.folder} holds {opened.num_items} items of {opened.dim} coordinates, "
            f"{loaded.folder} {loaded.dataset.num_items} of {dim}; name the run it was exported "
            f"from: {opened.manifest.model.get('run', 'none, its vectors are from elsewhere')}"
        )


def _sizes(bundle: Bundle) -> list[str]:
    """All its granularities as stages; every item goes on."""
    *short, last = bundle.manifest.sizes
    return [*(f"{size}:{bundle.num_items}" for size in short), str(last)]


def _lists_of_run(loaded: LoadedRun, num_users: int | None, k: int) -> Int64:
    """`[B, K]` as the run's evaluation ranks."""
    held = held_out(loaded.dataset, loaded.split, "test")
    histories = held.histories(loaded.dataset, spread_over(len(held.users), num_users))
    seen = find_protocol(loaded.config.protocol).filter_seen
    return recommend(loaded.model, histories, loaded.dataset.num_items, k=k, filter_seen=seen)


def _ndcg_of_run(loaded: LoadedRun, num_users: int | None, k: int) -> float:
    """As `recsys evaluate` gives it, of the same users."""
    seen = find_protocol(loaded.config.protocol).filter_seen
    ranking = rank_held_out(
        loaded.model,
        loaded.dataset,
        loaded.split,
        part="test",
        filter_seen=seen,
        ks=(k,),
        options=RankingOptions(most_users=num_users),
    )
    return float(ranking.per_user("ndcg", k).mean())


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
            worst = max(worst, score_difference(items, norms, users, *listed, size, filters))
    return worst
