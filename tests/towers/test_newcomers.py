"""What items without an id are made of, fitted to targets: they alone move, and towards them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.data.features.loading import ItemFeatures, NumericFeature
from recsys.granularity import Granularities
from recsys.prefixes import truncate
from recsys.tables import DenseConfig, build_table
from recsys.towers.cold_start.fitting import AdamSteps, Targets, _likelihood, fit_newcomers
from recsys.towers.cold_start.late_content import leave_content, match_lengths
from recsys.towers.items import ItemsConfig, ItemTower

NUM_ITEMS, NUM_USERS = 12, 20
NEW = torch.tensor([3, 7, 11])


def tower_of(fusion, granularities):
    torch.manual_seed(0)
    years = NumericFeature(np.arange(12, dtype=np.float32), np.ones(12, np.bool_))
    features = ItemFeatures(NUM_ITEMS, {}, {}, {"year": years}, "")
    table = build_table(DenseConfig(), NUM_ITEMS, 8, init_std=0.5, sizes=granularities.sizes)
    config = ItemsConfig(features=("year",), fusion=fusion)
    tower = ItemTower(config, table, features, granularities, init_std=0.5)
    counts = np.ones(NUM_ITEMS, np.int64)
    counts[NEW.numpy()] = 0
    tower.note_trained(counts)
    return tower.eval()


def targets_of(tower, granularities, scales, *, new_share):
    """Users with two targets each, every so many of them an item without an id."""
    users = torch.randn(NUM_USERS, 8)
    rows = torch.arange(NUM_USERS).repeat_interleave(2)
    known = tower.trained.nonzero().squeeze(1)
    is_new = torch.rand(len(rows)) < new_share
    items = torch.where(is_new, NEW[rows % 3], known[rows % len(known)])
    places = torch.where(is_new, rows % 3, -1)
    logits = dense(users, tower.vectors().detach(), granularities, scales)
    others = logits[:, :, known].logsumexp(2)
    return Targets(users, rows, places, others, logits[:, rows, items]), items


def dense(users, items, granularities, scales):
    normalize = granularities.normalize
    return torch.stack(
        [
            scale
            * truncate(users, size, normalize=normalize)
            @ truncate(items, size, normalize=normalize).T
            for size, scale in zip(granularities.sizes, scales, strict=True)
        ]
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_the_likelihood_is_that_of_the_whole_catalogue(normalize):
    sizes, scales = Granularities(sizes=(4, 8), normalize=normalize), torch.tensor([2.0, 3.0])
    tower = tower_of("gated_sum", sizes)
    targets, items = targets_of(tower, sizes, scales, new_share=0.4)
    vectors = tower.vectors().detach()
    logits = dense(targets.users, vectors, sizes, scales)
    given = [
        _likelihood(vectors[NEW], targets, scales, sizes, apart=apart) for apart in (True, False)
    ]
    left_out = targets.rows % 5 == 0
    for found, mine in zip(given, (left_out, ~left_out), strict=True):
        each = [
            torch.nn.functional.cross_entropy(logits[g, targets.rows[mine]], items[mine])
            for g in range(2)
        ]
        torch.testing.assert_close(found, torch.stack(each).mean())


def test_a_target_without_an_id_counts_as_often_as_its_weight_says():
    sizes, scales = Granularities(sizes=(4, 8)), torch.tensor([2.0, 3.0])
    tower = tower_of("gated_sum", sizes)
    targets, _ = targets_of(tower, sizes, scales, new_share=0.4)
    vectors = tower.vectors().detach()[NEW]
    again = (targets.places >= 0).long() + 1
    twice = replace(
        targets,
        rows=targets.rows.repeat_interleave(again),
        places=targets.places.repeat_interleave(again),
        own=targets.own.repeat_interleave(again, 1),
    )
    torch.testing.assert_close(
        _likelihood(vectors, replace(targets, weight=2.0), scales, sizes, apart=False),
        _likelihood(vectors, twice, scales, sizes, apart=False),
    )


def test_late_content_moves_what_has_no_id_alone():
    sizes, scales = Granularities(sizes=(4, 8), normalize=True), torch.tensor([5.0, 5.0])
    tower = tower_of("gated_sum", sizes)
    known, ids = tower.trained, tower.ids.vectors().detach().clone()
    leave_content(tower)
    assert torch.equal(tower.vectors().detach()[known], ids[known])
    targets, _ = targets_of(tower, sizes, scales, new_share=0.8)
    fit = fit_newcomers(tower, NEW, targets, scales, sizes, adam=AdamSteps(60, 0.05), content=True)
    assert fit.after < fit.before
    scores = dense(targets.users, tower.vectors().detach(), sizes, scales)
    match_lengths(tower, NEW)
    after = tower.vectors().detach()
    assert torch.equal(after[known], ids[known])
    assert after[NEW].norm(dim=1).mean() == pytest.approx(float(ids[known].norm(dim=1).mean()))
    assert not torch.allclose(after[3], after[11])
    torch.testing.assert_close(dense(targets.users, after, sizes, scales), scores)


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
def test_items_without_an_id_come_up_where_they_are_wanted_and_the_others_stay(fusion):
    sizes, scales = Granularities(sizes=(4, 8), normalize=True), torch.tensor([5.0, 5.0])
    tower = tower_of(fusion, sizes)
    before = tower.vectors().detach()
    targets, _ = targets_of(tower, sizes, scales, new_share=0.8)
    fit = fit_newcomers(tower, NEW, targets, scales, sizes, adam=AdamSteps(60, 0.05))
    after = tower.vectors().detach()
    known = tower.trained
    torch.testing.assert_close(after[known], before[known])
    assert not torch.allclose(after[NEW], before[NEW])
    assert fit.after < fit.before
    then, now = (
        dense(targets.users, vectors, sizes, scales)[:, :, NEW].logsumexp(2).mean(1)
        for vectors in (before, after)
    )
    assert (now > then).all()


def test_a_fit_that_tells_nothing_of_users_left_out_is_not_kept():
    sizes, scales = Granularities(sizes=(8,)), torch.tensor([1.0])
    tower = tower_of("gated_sum", sizes)
    before = tower.vectors().detach()
    targets, _ = targets_of(tower, sizes, scales, new_share=0.8)
    fit = fit_newcomers(tower, NEW, targets, scales, sizes, adam=AdamSteps(10, 1e4))
    assert fit.steps == 0
    assert fit.after == fit.before
    torch.testing.assert_close(tower.vectors().detach(), before)
