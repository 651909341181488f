"""Popularity and recency of candidates as of the moment, co-occurrence, and the history as such.

Shape legend: Q requests, K candidates, N items.
"""

from __future__ import annotations

import numpy as np

from recsys.rankers.features.columns import DAY, Block, Columns, mean_of


def add_popularity(block: Block, columns: Columns) -> None:
    """`popularity`; with times `taken_7d` for each window, `age` and `quiet` (days, logarithms)."""
    if not block.config.popularity:
        return
    events, moments = block.knowledge.events, block.moments
    if events is None or moments is None:
        columns.add("popularity", np.log1p(block.knowledge.counts[block.candidates]))
        return
    shape, items = block.candidates.shape, block.candidates.ravel()
    now = np.repeat(moments, shape[1])
    before = events.before(items, now)
    columns.add("popularity", np.log1p(before).reshape(shape))
    for days in block.config.windows:
        earlier = events.before(items, now - round(days * DAY))
        columns.add(f"taken_{days:g}d", np.log1p(before - earlier).reshape(shape))
    some = before > 0
    for name, places in (("age", np.zeros_like(before)), ("quiet", before - 1)):
        passed = (now - events.at(items, places.clip(0))) / DAY
        known = np.where(some, np.log1p(passed.clip(0)), np.nan)
        columns.add(name, known.reshape(shape))


def add_pairs(block: Block, columns: Columns) -> None:
    """`rules_last`, `rules_sum`, `rules_most`, and `neighbours_...` likewise."""
    known, config = block.knowledge, block.config
    for name, chosen, pairs in (
        ("rules", config.rules, known.rules),
        ("neighbours", config.neighbours, known.neighbours),
    ):
        if chosen is not None and pairs is not None:
            last, total, most = pairs.seen_from(block.recent(chosen.last), block.candidates)
            columns.add(f"{name}_last", last)
            columns.add(f"{name}_sum", total)
            columns.add(f"{name}_most", most)


def add_history(block: Block, columns: Columns) -> None:
    """`history_length`, `history_popularity`, `popularity_step`; with times two more.

    These are `since_last` and `pace`, logarithms of days.
    """
    if not block.config.history:
        return
    histories, known = block.requests.histories, block.knowledge
    popularity = np.log1p(known.counts).astype(np.float32)
    usual = mean_of(popularity, block.recent(block.config.recent))
    columns.add("history_length", np.log1p(histories.lengths))
    columns.add("history_popularity", usual)
    columns.add("popularity_step", popularity[block.candidates] - usual[:, None])
    if known.events is None:
        return
    since, pace = np.full((2, len(histories)), np.nan)
    some = np.flatnonzero(histories.lengths > 0)
    if histories.timestamps is not None and block.moments is not None and len(some):
        first = histories.timestamps[histories.offsets[some]]
        last = histories.timestamps[histories.offsets[some + 1] - 1]
        since[some] = np.log1p((block.moments[some] - last).clip(0) / DAY)
        pace[some] = np.log1p((last - first).clip(0) / DAY / histories.lengths[some])
    columns.add("since_last", since)
    columns.add("pace", pace)
