"""Cutting a table, and reading its rows at a granularity from those who hold them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.tables.distributed.plan import LANE, ShardedConfig, cut, holders
from tests.distributed import training
from tests.distributed.workers import run

SIZES = (4, 8, 32)
lanes = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(
    lambda units: tuple(LANE * unit for unit in sorted(units))
)
shardings = st.sampled_from(["table_wise", "row_wise", "column_wise", "tier_aligned"])


@given(shardings, lanes, st.integers(1, 6), st.integers(36, 200))
def test_every_number_of_a_table_has_exactly_one_holder(sharding, sizes, world_size, num_rows):
    shards = cut(ShardedConfig(sharding=sharding), num_rows, sizes, world_size)
    held = np.zeros((num_rows, sizes[-1]), dtype=int)
    for shard in shards:
        held[shard.row : shard.row_end, shard.column : shard.end] += 1
        assert shard.width % LANE == 0 and 0 <= shard.rank < world_size
    assert (held == 1).all()
    assert sum(shard.nbytes for shard in shards) == 4 * num_rows * sizes[-1]


@given(lanes, st.integers(1, 6))
def test_tier_aligned_shards_are_even_and_a_prefix_stands_on_as_few_as_can_be(sizes, world_size):
    shards = cut(ShardedConfig(), 100, sizes, world_size)
    edges = {shard.column for shard in shards} | {shard.end for shard in shards}
    assert set(sizes) <= edges
    loads = np.zeros(world_size)
    for shard in shards:
        loads[shard.rank] += shard.width
    assert loads.max() - loads[loads > 0].min() <= LANE
    for size in sizes:
        assert len(holders(shards, size)) == -(-size // int(loads.max())) or loads.min() < max(
            loads
        )


def test_the_config_may_name_a_process_for_each_granularity():
    shards = cut(ShardedConfig(ranks=(1, 1, 0)), 10, SIZES, 2)
    assert [(s.rank, s.column, s.width) for s in shards] == [(1, 0, 4), (1, 4, 4), (0, 8, 24)]
    assert holders(shards, 4) == holders(shards, 8) == (1,) and holders(shards, 9) == (0, 1)


@pytest.mark.parametrize(
    ("settings", "sizes", "world_size", "message"),
    [
        ({"sharding": "table_wise"}, (6,), 1, "multiple of 4, found 6"),
        ({}, (2, 8), 1, "2 is not a multiple of 4"),
        ({"ranks": (0, 1)}, SIZES, 2, "names 2 processes for the 3 shards"),
        ({"ranks": (0, 0, 5)}, SIZES, 2, r"names process 5, there are 0\.\.1"),
        ({"sharding": "row_wise", "ranks": (0,)}, SIZES, 2, "not for row_wise"),
        ({"sharding": "row_wise"}, SIZES, 8, "10 rows cannot be cut into 8 blocks of 2"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(settings, sizes, world_size, message):
    with pytest.raises(ConfigError, match=message):
        cut(ShardedConfig(**settings), 10, sizes, world_size)


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_lookup_at_a_granularity_is_the_prefix_and_touches_its_holders_alone(world_size):
    kinds = ("table_wise", "row_wise", "column_wise", "tier_aligned", "uneven")
    found = run(world_size, training.read_rows, kinds, 50, SIZES)
    smallest = {}
    for rank, results in enumerate(found):
        for number, (shards, rows, size, read, reading, engine) in enumerate(results):
            kind = kinds[number // len(SIZES)]
            np.testing.assert_array_equal(read, engine[..., :size])  # of the engine's own lookup
            touched = {
                shard.rank
                for shard in shards
                if shard.column < size and ((rows >= shard.row) & (rows < shard.row_end)).any()
            }
            assert set(reading.ranks) == touched, kind
            smallest.setdefault((kind, size), []).append((rank, rows.size, reading))
    if world_size == 3:
        for kind in ("tier_aligned", "uneven"):
            holder = smallest[kind, 4][0][2].ranks[0]
            for rank, asked, reading in smallest[kind, 4]:
                assert reading.ranks == (holder,)
                others = sum(n for r, n, _ in smallest[kind, 4] if r != rank)
                served = rank == holder  # 8 bytes an index, 16 for four coordinates
                assert reading.sent == (16 * others if served else 8 * asked)
                assert reading.received == (8 * others if served else 16 * asked)


def test_first_values_do_not_depend_on_how_the_table_is_cut():
    tables = set()
    for world_size, kind in ((1, "table_wise"), (3, "row_wise"), (3, "tier_aligned")):
        for results in run(world_size, training.read_rows, (kind,), 50, (4, 8)):
            first = results[1]
            assert first[2] == 8
            tables.add((first[1].tobytes(), first[3].tobytes()))
    assert len(tables) == 3  # one for the rows of each rank, whatever the world size
