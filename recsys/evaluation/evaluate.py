"""The evaluator: recall, NDCG and coverage of a model at every granularity.

Shape legend: U users measured, B of a batch, M targets (jagged), G granularities, K cutoffs,
N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from recsys.arrays import Float64, Int64
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, item_counts
from recsys.data.splitting import Split
from recsys.devices import reading
from recsys.errors import GranularityError, ProtocolError
from recsys.evaluation.held_out import HeldOut, describe_untrained, held_out
from recsys.evaluation.metric_table import SCHEMA, MetricTable
from recsys.evaluation.metrics import (
    DEFAULT_METRICS,
    checked_cutoffs,
    checked_metrics,
    user_values,
)
from recsys.evaluation.protocol import FitOn, Part, Protocol, ProtocolCard, check_time, make_card
from recsys.evaluation.ranking.dispatch import rank_batch
from recsys.evaluation.ranking.make_scorer import DEFAULT_BUDGET, make_scorer
from recsys.evaluation.ranking.scorer import Scorer, VectorScorer
from recsys.evaluation.seen_targets import describe_seen
from recsys.evaluation.summary import catalogue_rows, keep_targets, segments_of, user_rows
from recsys.evaluation.target_ranks import target_ranks
from recsys.granularity import Granularities
from recsys.kernels.ranking import count_listed
from recsys.model_protocols import ScoreModel, VectorModel, time_read
from recsys.processes import ALONE, Processes
from recsys.progress import progress

DEFAULT_KS = (1, 5, 10, 20, 50, 100)
FAST_METRICS = ("recall", "ndcg")
"""What is measured when extras are off."""


@dataclass(frozen=True)
class RankingOptions:
    """Options of the computation of a ranking."""

    granularities: Granularities | None = None
    """Prefixes to measure instead of the model's own (any sizes up to D); what it does not name,
    such as `normalize`, is the model's own."""
    most_users: int | None = None
    """Of all that can be measured so many, evenly spread; None: all."""
    budget_bytes: int = DEFAULT_BUDGET
    """For blocks of scores."""
    label: str = "ranking"
    """Of the progress bar."""
    processes: Processes = ALONE
    """Each scores its share of the catalogue; all of them rank and get the same."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of the table of an evaluation."""

    run: str = "run"
    """The name in the table."""
    extras: bool = True
    """All metrics, segments, bootstrap intervals and (where the ranking has lists) catalogue
    metrics; without, recall and ndcg over all users, which is much cheaper."""
    metrics: tuple[str, ...] = ()
    """More of them, by name, such as precision or my_package.my_module:rbp."""
    seed: int = 0
    """Of the bootstrap."""
    ranking: RankingOptions = RankingOptions()


@dataclass(frozen=True)
class Ranking:
    """Ranks of the targets of every user, and how often each item was recommended."""

    held_out: HeldOut
    sizes: tuple[int | None, ...]
    """The granularities, ascending; `(None,)` for a model without vectors."""
    ks: tuple[int, ...]
    ranks: Int64
    """`[G, M]`; `MISS` where a target cannot be found at any of the cutoffs."""
    counts: Int64 | None
    """`[G, K, N]` how often an item was among the first k recommended; None: not asked for."""

    def per_user(self, metric: str, k: int, granularity: int | None = None) -> Float64:
        """`[U]` values of one metric, for paired comparisons; `None` is the full width.

        Raises:
            GranularityError: the ranking was not taken at this granularity.
        """
        if granularity is not None and granularity not in self.sizes:
            raise GranularityError(f"granularity {granularity} is not among {self.sizes}")
        g = -1 if granularity is None else self.sizes.index(granularity)
        return user_values(metric, self.ranks[g], self.held_out.offsets, (k,))[:, 0]


def rank_held_out(
    model: VectorModel | ScoreModel,
    dataset: Dataset,
    split: Split,
    *,
    part: str,
    filter_seen: bool,
    ks: Sequence[int] = DEFAULT_KS,
    lists: bool = False,
    options: RankingOptions = RankingOptions(),
) -> Ranking:
    """Ranks the whole catalogue for every user of `part`, at all granularities in one pass.

    A user's history is everything before the held-out part. Memory: the vectors (or one batch of a
    ScoreModel's scores), `options.budget_bytes`, and `8 * G * (M + K * N)` bytes of results.

    Args:
        model: in the mode it shall be measured in (call `eval()` on a network first).
        dataset: the histories.
        split: how they are cut.
        part: `valid` or `test`.
        filter_seen: take the items of the history out of the ranking.
        ks: cutoffs.
        lists: count the recommended items as well; without, one target per user is ranked by
            counting, which is much cheaper.
        options: how it is computed.

    Raises:
        ConfigError: a cutoff is none.
        DataError: nobody can be measured.
        GranularityError: the model cannot be cut at these granularities.
        RunError: the model is of another catalogue or gives no finite numbers.
    """
    held, ks = held_out(dataset, split, part), checked_cutoffs(ks)
    held = held if options.most_users is None else held.spread(options.most_users)
    with reading(model), progress() as bar:
        scorer = make_scorer(
            model,
            dataset.num_items,
            granularities=options.granularities,
            budget_bytes=options.budget_bytes,
            processes=options.processes,
        )
        ranks = np.empty((len(scorer.sizes), len(held.targets)), np.int64)
        counts = None
        if lists:
            counts = np.zeros((len(scorer.sizes), len(ks), dataset.num_items), np.int64)
        task = bar.add_task(options.label, total=len(held.users))
        compiled = isinstance(scorer, VectorScorer) and scorer.compiled is not None
        for rows in scorer.batches(held.by_length if compiled else held.by_target):
            positions, offsets = held.targets_of(rows)
            histories = held.histories(dataset, rows)
            targets = Histories(histories.users, held.targets[positions], offsets)
            ranks[:, positions] = _rank_batch(
                scorer, histories, targets, ks, counts, filter_seen=filter_seen
            )
            bar.advance(task, len(rows))
    if counts is not None:
        np.cumsum(counts, axis=1, out=counts)
    return Ranking(held, scorer.sizes, ks, ranks, counts)


def _rank_batch(
    scorer: Scorer,
    histories: Histories,
    targets: Histories,
    ks: tuple[int, ...],
    counts: Int64 | None,
    *,
    filter_seen: bool,
) -> Int64:
    """Ranks `[G, M]` of one batch; adds what was recommended to `counts`."""
    hidden = histories if filter_seen else histories.last(0)
    single = counts is None and len(targets.items) == len(targets)
    ranks, lists = rank_batch(scorer, histories, targets, hidden, None if single else ks[-1])
    if counts is not None and lists is not None:
        for of_size, listed in zip(counts, lists, strict=True):
            count_listed(listed, np.array(ks), of_size)  # each place once: summed up at the end
    return ranks


def tabulate(
    ranking: Ranking,
    card: ProtocolCard,
    popularity: Int64,
    options: EvaluationOptions,
) -> MetricTable:
    """The figures of a ranking.

    Args:
        ranking: of one model.
        card: the protocol it was taken under.
        popularity: `[N]` interactions of each item in what the model was fitted on.
        options: what goes into the table.
    """
    extras = options.extras
    names = dict.fromkeys([*(DEFAULT_METRICS if extras else FAST_METRICS), *options.metrics])
    segments = segments_of(popularity, with_cold=card.protocol == "global-time")
    rows = []
    for segment in segments if extras else ("all",):
        ranks, offsets = keep_targets(
            ranking.ranks, ranking.held_out.offsets, segments[segment][ranking.held_out.targets]
        )
        if len(offsets) > 1:
            rows += user_rows(
                ranks,
                offsets,
                segment=segment,
                sizes=ranking.sizes,
                metrics=tuple(names),
                ks=ranking.ks,
                seed=options.seed if extras else None,
            )
    if extras and ranking.counts is not None:
        rows += catalogue_rows(
            ranking.counts,
            popularity,
            sizes=ranking.sizes,
            ks=ranking.ks,
            num_users=len(ranking.held_out.users),
        )
    told = {"run": options.run, "split": card.part, "protocol": card.protocol}
    frame = pl.DataFrame([told | row for row in rows], schema=SCHEMA)
    held, largest = ranking.held_out, ranking.ks[-1]
    kept = target_ranks(options.run, ranking.sizes, ranking.ranks, held.offsets, largest)
    return MetricTable(card, frame, kept if extras else None)


def evaluate(
    model: VectorModel | ScoreModel,
    dataset: Dataset,
    split: Split,
    *,
    protocol: Protocol,
    part: Part,
    fit_on: FitOn = "train",
    ks: Sequence[int] = DEFAULT_KS,
    options: EvaluationOptions = EvaluationOptions(),
) -> MetricTable:
    """`rank_held_out` and `tabulate` in one call, with the protocol card.

    Args:
        model: fitted on `fit_on`, and in the mode it shall be measured in.
        dataset: the histories.
        split: how they are cut.
        protocol: how figures are taken.
        part: what is predicted.
        fit_on: what the model was fitted on; goes on the card, and defines popularity.
        ks: cutoffs.
        options: what goes into the table, and how it is computed.

    Raises:
        ProtocolError: the split is not the protocol's, or the model has seen its targets.
        ConfigError, DataError, GranularityError, RunError: as `rank_held_out`.
    """
    if fit_on == "all":
        raise ProtocolError(
            "a model fitted on all rows has seen every target, so no figure of it says anything; "
            "measure the run it takes its epochs from (recsys train --like RUN fit_on=all)"
        )
    if part == "valid" and fit_on == "train+valid":
        raise ProtocolError(
            "a model fitted on train+valid has seen the validation targets; "
            "evaluate it with part=test, or fit it on train"
        )
    checked_metrics(options.metrics)
    check_time(time_read(model), protocol, options.run)
    card = make_card(dataset.manifest, protocol, part, fit_on, split.rule)
    ranking = rank_held_out(
        model,
        dataset,
        split,
        part=part,
        filter_seen=protocol.filter_seen,
        ks=ks,
        lists=options.extras,
        options=replace(options.ranking, label=f"evaluate {options.run}"),
    )
    fit_end = split.fit_end(fit_on)
    popularity = item_counts(dataset, split.start, fit_end)
    if options.extras:
        held = ranking.held_out
        told = {
            "filtered_targets": describe_seen(dataset, held, protocol),
            "untrained": describe_untrained(held, fit_end > split.start, popularity),
        }
        card = card.model_copy(update=told)
    return tabulate(ranking, card, popularity, options)
