"""How a batch is shared, and how gradients and rankings come together."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import parse
from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.processes import Processes
from recsys.runs.config import RunConfig
from recsys.training.distributed import share_of
from tests.distributed import training
from tests.distributed.workers import run


def batch_of(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(offsets[-1], dtype=np.int32)
    return Batch(Histories(np.arange(len(lengths)), items, offsets), items.astype(np.int64) + 1)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 5))
def test_shares_are_a_partition_of_the_batch_weighed_by_their_targets(lengths, world_size):
    batch = batch_of(lengths)
    shares = [share_of(batch, Processes(rank, world_size)) for rank in range(world_size)]
    real = [share for share in shares if share.weight > 0]
    users = np.concatenate([share.batch.histories.users for share in real])
    np.testing.assert_array_equal(users, np.arange(len(lengths)))
    for name in ("targets", "items"):
        whole = batch.targets if name == "targets" else batch.histories.items
        parts = [
            share.batch.targets if name == "targets" else share.batch.histories.items
            for share in real
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    for share in real:
        part = len(share.batch.targets) / len(batch.targets)
        assert share.weight == pytest.approx(world_size * part)
        assert part <= 1 / world_size + max(lengths) / sum(lengths)
    for share in shares:  # also one of no weight can be computed
        assert len(share.batch.histories) >= 1
        assert len(share.batch.targets) == len(share.batch.histories.items)


def test_gradients_become_their_mean_where_any_process_has_one():
    first, second = torch.full((2, 3), 1.0), torch.full((2, 3), 5.0)
    rows = ([1, 4], [[1.0, 2.0], [3.0, 4.0]])
    gradients = [[first, None, rows], [second, None, ([4], [[1.0, 0.0]])], [None, None, None]]
    for means in run(3, training.average, gradients):
        np.testing.assert_allclose(means[0], 2.0)
        assert means[1] is None
        expected = np.zeros((5, 2))
        expected[1], expected[4] = [1 / 3, 2 / 3], [4 / 3, 4 / 3]
        np.testing.assert_allclose(means[2], expected, rtol=1e-6)


@pytest.mark.parametrize(("lists", "repeats"), [(False, 0.0), (True, 0.0), (True, -0.05)])
def test_a_shared_catalogue_is_ranked_to_the_bit_as_by_one_process(lists, repeats, tmp_path):
    folder = training.write_data(tmp_path / "data").folder
    ranks, counts = run(1, training.rank_together, folder, "test", lists, repeats)[0]
    assert len(np.unique(ranks)) > 3
    if repeats:
        plain, _ = run(1, training.rank_together, folder, "test", lists, 1e-9)[0]
        assert (plain != ranks).any()
    for found in run(3, training.rank_together, folder, "test", lists, repeats):
        np.testing.assert_array_equal(found[0], ranks)
        if lists:
            np.testing.assert_array_equal(found[1], counts)


def test_a_share_weighs_by_what_the_loss_is_the_mean_over():
    batch = batch_of([1, 1, 4])
    for rank, targets in enumerate((2, 4)):
        assert share_of(batch, Processes(rank, 2)).weight == pytest.approx(2 * targets / 6)


def test_a_softmax_over_the_catalogue_is_refused_with_a_sharded_table(tmp_path):
    tree = {"data": str(tmp_path), "model": {"table": {"name": "sharded"}}}
    with pytest.raises(ConfigError, match="sampled_softmax"):
        parse(RunConfig, {**tree, "loss": {"name": "softmax"}}, "here")
    assert parse(RunConfig, tree, "here").model.table.sharding == "tier_aligned"
