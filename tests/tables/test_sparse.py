"""Sparse rows keep the largest coordinates of every slice, ever fewer while training goes on."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.tables import SparseConfig, build_table, note_progress

N, D = 30, 16


def sparse(kept=4, sizes=(4, 8, 16), start=0.2, ramp=0.5):
    torch.manual_seed(0)
    config = SparseConfig(kept=kept, start=start, ramp=ramp)
    return build_table(config, N, D, init_std=1.0, sizes=sizes).train()


def test_a_row_keeps_the_largest_coordinates_of_every_slice():
    table = sparse(kept=8).eval()
    assert table.kept_at(8) == (2, 4, 8)
    rows, found = table.weight.detach().numpy(), table.vectors().detach().numpy()
    for row, cut in zip(rows, found, strict=True):
        for lo, hi, kept in ((0, 4, 2), (4, 8, 2), (8, 16, 4)):
            best = sorted(range(lo, hi), key=lambda j: -abs(row[j]))[:kept]
            wanted = [row[j] if j in best else 0 for j in range(lo, hi)]
            np.testing.assert_array_equal(cut[lo:hi], np.array(wanted, np.float32))


@pytest.mark.parametrize("sizes", [(16,), (4, 8, 16), (1, 2, 16), (15, 16), (1, 14, 15, 16)])
def test_every_slice_keeps_one_and_no_more_than_it_has(sizes):
    table = sparse(kept=len(sizes), sizes=sizes)
    for count in range(len(sizes), D + 1):
        kept = (0, *table.kept_at(count))
        assert kept[-1] == count
        for (lo, hi), (fewer, more) in zip(pairwise((0, *sizes)), pairwise(kept), strict=True):
            assert 1 <= more - fewer <= hi - lo


def test_what_a_prefix_keeps_does_not_depend_on_what_is_behind_it():
    one, other = sparse().eval(), sparse().eval()
    with torch.no_grad():
        other.weight[:, 8:] *= 100
    assert torch.equal(one.vectors()[:, :8], other.vectors()[:, :8])


def test_rows_lose_coordinates_in_equal_ratios_and_are_evaluated_as_they_are_served():
    table = sparse(kept=4)
    counts = []
    for step in range(100):
        note_progress(table, step / 100)
        counts.append(table.count)
        found = (table.vectors() != 0).sum(1)
        assert (found == table.count).all()
        table.eval()
        assert ((table(torch.arange(N)) != 0).sum(1) == 4).all()
        table.train()
    assert counts[:20] == [16] * 20 and counts == sorted(counts, reverse=True)
    assert counts[45] == 8  # half of the ramp: 16 / 2
    assert set(counts[70:]) == {4}


def test_a_gradient_reaches_what_is_kept_alone():
    table = sparse(kept=4)
    note_progress(table, 0.8)
    kept = table.vectors() != 0
    table.vectors().sum().backward()
    assert torch.equal(table.weight.grad != 0, kept)


def test_it_takes_the_bytes_of_what_is_kept():
    assert sparse(kept=5).nbytes == N * 5 * (4 + 2)


@pytest.mark.parametrize("kept", [2, 16])
def test_a_number_that_leaves_a_slice_empty_or_nothing_out_is_refused(kept):
    with pytest.raises(ConfigError, match=r"choose 3 .* to 15"):
        sparse(kept=kept)
