import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import rank_held_out
from recsys.evaluation.held_out import held_out
from recsys.evaluation.precomputed import FixedVectors, freeze_users
from recsys.granularity import Granularities
from recsys.studies.controls.reduction import pca, random_projection, score_svd
from recsys.studies.controls.sparse_codes import fit_sparse_codes
from tests.evaluation.ranking.naive import integer_vectors, random_dataset


def vectors(num, dim=6, seed=0):
    """Directions of unequal worth, away from the origin."""
    noise = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))
    return noise * torch.logspace(0, 1, dim) + 2.0


REDUCTIONS = {
    "pca": lambda items, users: pca(items),
    "svd": score_svd,
    "projection": lambda items, users: random_projection(items, seed=0),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_full_rank_keeps_scores_but_for_one_number_per_user(name):
    items, users = vectors(40), vectors(25, seed=1)
    reduction = REDUCTIONS[name](items, users)
    moved = (users @ reduction.user_map) @ reduction.items.T - users @ items.T
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=1e-3, atol=2e-3)


def test_pca_prefixes_are_the_truncated_svd_of_the_centred_items():
    items = vectors(40)
    centred = (items - items.mean(0)).double()
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    reduction = pca(items)
    for d in (1, 3, 5):
        best = (left[:, :d] * sizes[:d]) @ right[:d]
        found = reduction.items[:, :d] @ reduction.user_map[:, :d].T
        torch.testing.assert_close(found.double(), best, rtol=1e-4, atol=1e-4)


def test_the_svd_of_scores_is_the_best_of_all_linear_maps():
    items, users = vectors(40), vectors(60, seed=1) @ torch.randn(6, 6)
    scores = (users @ (items - items.mean(0)).T).double()
    left, sizes, right = torch.linalg.svd(scores, full_matrices=False)
    reduction, rival = score_svd(items, users), pca(items)
    for d in (1, 2, 4):
        best = (left[:, :d] * sizes[:d]) @ right[:d]
        found = (users @ reduction.user_map[:, :d]) @ reduction.items[:, :d].T
        torch.testing.assert_close(found.double(), best, rtol=1e-2, atol=1e-2 * float(sizes[0]))
        other = (users @ rival.user_map[:, :d]) @ rival.items[:, :d].T
        assert (found - scores).norm() <= (other - scores).norm() * (1 + 1e-4)


def test_users_who_never_look_some_way_do_not_break_the_svd():
    users = vectors(30)
    users[:, 2:] = 0
    reduction = score_svd(vectors(40), users)
    assert torch.isfinite(reduction.items).all() and torch.isfinite(reduction.user_map).all()


def test_a_random_projection_is_a_rotation_that_its_seed_decides():
    items = vectors(10)
    one, same, other = (random_projection(items, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.user_map.T @ one.user_map, torch.eye(6), atol=1e-5, rtol=0)
    assert torch.equal(one.items, same.items) and not torch.equal(one.items, other.items)


def test_ranks_of_full_rank_pca_are_those_of_the_model(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    users, items = vectors(dataset.num_users), vectors(dataset.num_items, seed=1)
    reduction, plain = pca(items), Granularities(sizes=(6,))
    ranks = [
        rank_held_out(model, dataset, make_split(dataset), part="test", filter_seen=True).ranks
        for model in (
            FixedVectors(items, users, plain),
            FixedVectors(reduction.items, users @ reduction.user_map, plain),
        )
    ]
    np.testing.assert_array_equal(*ranks)


def test_frozen_users_rank_as_the_model_does(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items)
    held = held_out(dataset, split, "test")
    users = freeze_users(model, dataset, held.histories(dataset, np.arange(len(held.users))))
    measured = torch.tensor(held.users.tolist())
    assert torch.equal(users[measured], model.users[measured])
    unmeasured = np.setdiff1d(np.arange(dataset.num_users), held.users)
    assert len(unmeasured) and not users[unmeasured].any()
    frozen = FixedVectors(model.items, users, model.granularities)
    found = [
        rank_held_out(each, dataset, split, part="test", filter_seen=True).ranks
        for each in (model, frozen)
    ]
    np.testing.assert_array_equal(*found)


def test_one_atom_each_is_found_where_items_are_multiples_of_atoms():
    random = torch.Generator().manual_seed(0)
    atoms = torch.linalg.qr(torch.randn(8, 8, generator=random))[0]
    chosen = torch.arange(64) % 8
    signs = 1.0 - 2.0 * (torch.arange(64) // 8 % 2)  # pairs that cancel: the mean is 0
    items = atoms[chosen] * signs[:, None] * (1 + torch.arange(64) // 16)[:, None]
    codes = fit_sparse_codes(items, k=1, num_atoms=16, seed=0)
    torch.testing.assert_close(codes.decode(), items, rtol=5e-3, atol=5e-3)


def test_more_atoms_come_nearer_and_bytes_are_counted():
    items = vectors(200, dim=12)
    centred = items - items.mean(0)
    errors = []
    for k in (1, 2, 4, 8):
        codes = fit_sparse_codes(items, k=k, num_atoms=24, seed=0)
        assert codes.bytes_per_row == 4 * k == 2 * k + 2 * k
        assert codes.values.dtype == torch.float16 and codes.indices.shape == (200, k)
        rows = codes.indices.sort(dim=1).values
        assert (rows[:, 1:] != rows[:, :-1]).all(), "an atom is chosen once"
        errors.append(float((codes.decode() - centred).norm()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.3 * errors[0]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(0, 99))
def test_a_code_is_never_worse_than_no_code(k, seed):
    items = vectors(30, seed=seed)
    centred = items - items.mean(0)
    codes = fit_sparse_codes(items, k=k, num_atoms=8, seed=seed)
    errors = (codes.decode() - centred).norm(dim=1)
    assert (errors <= centred.norm(dim=1) * 1.01 + 1e-3).all()


def test_codes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="must ascend"):
        fit_sparse_codes(vectors(5), k=2, num_atoms=6, seed=0)
