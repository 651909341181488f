"""Synthetic data of any size: Zipf popularity, latent interests, drifting users.

Each item belongs to one of K interests, which stand in a ring. A user starts at one of them;
before each interaction the interest may move (a Markov chain: mostly one on along the ring, else
anywhere), and the item is drawn by popularity within the interest. So the order of a history
says which interest comes next, which popularity and co-occurrence alone do not.

Rows go to disk chunk by chunk. Every random number is a hash of (seed, purpose, row), so no row
depends on how the rows were cut into chunks.
Shape legend: U users, N items, K clusters, T interactions of the chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.options import PrepareOptions, SyntheticOptions
from recsys.arrays import Float64, Int64
from recsys.data.dataset import (
    INTERACTIONS,
    ITEMS,
    USERS,
    Dataset,
    DatasetOrigin,
    item_table,
    load_dataset,
    user_table,
    write_manifest,
)
from recsys.errors import ConfigError
from recsys.files.atomic import atomic_path
from recsys.progress import progress

_EPOCH = 1_500_000_000
_YEAR = 365 * 86_400
_MEAN_GAP = 43_200.0
_ONE_ON = 0.8
"""Share of the moves that go one interest on along the ring."""
_REDRAWS = 8
"""An item the user met before is drawn anew so often; then the next free one of the interest is
taken (of the next interest, where a user has met all of one)."""
_SCHEMA = pa.schema(
    [("user_index", pa.int32()), ("item_index", pa.int32()), ("timestamp", pa.int64())]
)


class _Purpose(IntEnum):
    """What a random number is for; numbers of different purposes are independent."""

    LENGTH, CATALOGUE, CLUSTER, MOVE, WHERE, ITEM, NOISE, START, GAP, REDRAW = range(10)


def write_synthetic(options: PrepareOptions, out: Path) -> Dataset:
    """Writes the dataset folder.

    Raises:
        ConfigError: filters are asked for; the made-up data has its sizes by construction.
    """
    filtered = (options.min_rating, options.deduplicate, options.min_user_count)
    if (*filtered, options.min_item_count) != (None, "none", 1, 1):
        raise ConfigError(
            "synthetic is generated with the given sizes and takes no filters; leave out "
            "min_rating, deduplicate, min_user_count and min_item_count"
        )
    sizes = options.synthetic
    world = _World.of(sizes)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        _write_interactions(temporary / INTERACTIONS, sizes, world)
        user_table(_names(sizes.num_users)).write_parquet(temporary / USERS)
        content = pl.DataFrame({"item_id": _names(sizes.num_items), "cluster": world.cluster_of()})
        item_table(content["item_id"], content).write_parquet(temporary / ITEMS)
        settings = sizes.model_dump_json(exclude={"chunk_interactions"})
        origin = DatasetOrigin(
            source=f"synthetic {settings}",
            licence=options.licence or "made up, free of rights",
            tie_rule="no ties: the times of a user ascend strictly",
        )
        write_manifest(temporary, options.dataset_name or "synthetic", origin, options.split)
    return load_dataset(out)


def _names(count: int) -> pl.Series:
    return pl.Series(np.arange(count)).cast(pl.String)


def _write_interactions(path: Path, sizes: SyntheticOptions, world: _World) -> None:
    with progress() as bar, pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        task = bar.add_task("synthetic interactions", total=sizes.num_interactions)
        for first, last in _chunks(world.offsets, sizes.chunk_interactions):
            users, items, times = _interactions(sizes, world, first, last)
            columns = [users.astype(np.int32), items.astype(np.int32), times]
            writer.write_table(pa.table(columns, schema=_SCHEMA))
            bar.update(task, advance=len(items))


def _chunks(offsets: Int64, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole users with about `size` interactions."""
    first, count = 0, len(offsets) - 1
    while first < count:
        full = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        last = min(max(full, first + 1), count)
        yield first, last
        first = last


def uniform(seed: int, purpose: int, positions: Int64) -> Float64:
    """Numbers in [0, 1), one a position, by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    start = np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)
    z = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class _World:
    """Lengths of histories, and the two ways to draw an item."""

    offsets: Int64
    """`[U + 1]`"""
    by_cluster: Int64
    """`[N]` items, those of one cluster together, the popular ones first."""
    cluster_shares: Float64
    """`[N]` cluster + cumulative share of popularity within it, along `by_cluster`."""
    by_rank: Int64
    """`[N]` items, the popular ones first."""
    rank_shares: Float64
    """`[N]` cumulative share of popularity, along `by_rank`."""

    @classmethod
    def of(cls, sizes: SyntheticOptions) -> _World:
        ranks = np.arange(sizes.num_items)
        by_rank = np.argsort(uniform(sizes.seed, _Purpose.CATALOGUE, ranks), kind="stable")
        popularity = np.power(ranks + 1.0, -sizes.zipf_exponent)
        # Every num_clusters-th rank: each interest has popular and rare items.
        order = np.argsort(ranks % sizes.num_clusters, kind="stable")
        shares = [
            cluster + _cumulative(popularity[cluster :: sizes.num_clusters])
            for cluster in range(sizes.num_clusters)
        ]
        offsets = np.concatenate([[0], np.cumsum(_lengths(sizes))])
        return cls(
            offsets, by_rank[order], np.concatenate(shares), by_rank, _cumulative(popularity)
        )

    def in_cluster(self, clusters: Int64, numbers: Float64) -> Int64:
        """An item of each cluster `[T]` by a number `[T]` in [0, 1)."""
        # Near 1 the sum may round up to the next cluster; its first item is one place too far.
        where = np.minimum(clusters + numbers, np.nextafter(clusters + 1.0, 0.0))
        found: Int64 = self.by_cluster[np.searchsorted(self.cluster_shares, where, side="right")]
        return found

    def anywhere(self, numbers: Float64) -> Int64:
        """An item of the whole catalogue by a number `[T]` in [0, 1)."""
        found: Int64 = self.by_rank[np.searchsorted(self.rank_shares, numbers, side="right")]
        return found

    def next_item(self, items: Int64) -> Int64:
        """The next less popular item of the same cluster; the last leads to the next cluster."""
        following = np.empty_like(self.by_cluster)
        following[self.by_cluster] = np.roll(self.by_cluster, -1)
        return following[items]

    def cluster_of(self) -> npt.NDArray[np.int32]:
        """`[N]` cluster of each item."""
        clusters = np.empty(len(self.by_cluster), dtype=np.int32)
        clusters[self.by_cluster] = np.ceil(self.cluster_shares) - 1
        return clusters


def _cumulative(weights: Float64) -> Float64:
    sums = np.cumsum(weights)
    shares: Float64 = sums / sums[-1]
    return shares


def _lengths(sizes: SyntheticOptions) -> Int64:
    """`[U]` history lengths, log-normal, that sum to num_interactions exactly."""
    users = np.arange(sizes.num_users)
    # Box-Muller, from two numbers a user.
    radius = np.sqrt(-2 * np.log1p(-uniform(sizes.seed, _Purpose.LENGTH, 2 * users)))
    angle = 2 * np.pi * uniform(sizes.seed, _Purpose.LENGTH, 2 * users + 1)
    activity = np.exp(radius * np.cos(angle))
    lengths = np.full(sizes.num_users, sizes.min_history, dtype=np.int64)
    while left := sizes.num_interactions - int(lengths.sum()):
        room = sizes.max_history - lengths
        share = np.diff(np.floor(_cumulative(activity * (room > 0)) * left), prepend=0)
        lengths += np.minimum(share.astype(np.int64), room)
    return lengths


def _interactions(
    sizes: SyntheticOptions, world: _World, first: int, last: int
) -> tuple[Int64, Int64, Int64]:
    """users, items and times `[T]` of the users first..last-1."""
    offsets = world.offsets[first : last + 1]
    rows = np.arange(offsets[0], offsets[-1])
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    users = np.repeat(np.arange(first, last), lengths)

    def draw(purpose: int, positions: Int64 = rows) -> Float64:
        return uniform(sizes.seed, purpose, positions)

    anywhere = (draw(_Purpose.WHERE) * sizes.num_clusters).astype(np.int64)
    where = draw(_Purpose.MOVE)
    steps = np.where(where < sizes.drift * _ONE_ON, 1, anywhere) * (where < sizes.drift)
    steps[starts] = draw(_Purpose.CLUSTER, np.arange(first, last)) * sizes.num_clusters
    clusters = _running_sum(steps, starts, lengths) % sizes.num_clusters

    noisy = draw(_Purpose.NOISE) < sizes.noise
    numbers = draw(_Purpose.ITEM)
    items = world.in_cluster(clusters, numbers)
    items[noisy] = world.anywhere(numbers[noisy])
    _replace_repetitions(sizes, world, users, rows, clusters, items)

    gaps = (1 - _MEAN_GAP * np.log1p(-draw(_Purpose.GAP))).astype(np.int64)
    gaps[starts] = _EPOCH + draw(_Purpose.START, np.arange(first, last)) * _YEAR
    return users, items, _running_sum(gaps, starts, lengths)


def _running_sum(steps: Int64, starts: Int64, lengths: Int64) -> Int64:
    """Cumulative sums `[T]` that begin anew at each user's first row."""
    sums = np.cumsum(steps)
    return sums - np.repeat(sums[starts] - steps[starts], lengths)


def _replace_repetitions(
    sizes: SyntheticOptions,
    world: _World,
    users: Int64,
    rows: Int64,
    clusters: Int64,
    items: Int64,
) -> None:
    """Changes `items [T]` until no user has one twice; a seen item could never be a target."""
    active = np.arange(len(items))
    attempt = 0
    while True:
        keys = users[active] * sizes.num_items + items[active]
        order = np.argsort(keys, kind="stable")
        again = active[order[1:][keys[order[1:]] == keys[order[:-1]]]]
        if not len(again):
            return
        if attempt < _REDRAWS:
            numbers = uniform(sizes.seed, _Purpose.REDRAW + attempt, rows[again])
            items[again] = world.in_cluster(clusters[again], numbers)
        else:
            items[again] = world.next_item(items[again])
        # Only users who had a repetition can have one now.
        affected = np.zeros(int(users[-1] - users[0]) + 1, dtype=bool)
        affected[users[again] - users[0]] = True
        active = active[affected[users[active] - users[0]]]
        attempt += 1
