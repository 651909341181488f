"""Rotations: nothing changes at full width, prefixes become useful."""

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.retrieval.rotation import (
    _skew_gradient,
    cayley,
    learned_rotation,
    loss_of,
    principal_rotation,
    rotate,
)

SIZES = (2, 4, 8, 16)


def mixed(rows, spectrum, seed):
    """Vectors whose squares follow a spectrum along hidden axes."""
    axes = np.linalg.qr(np.random.default_rng(99).standard_normal((16, 16)))[0]
    values = np.random.default_rng(seed).standard_normal((rows, 16)) * spectrum
    return (values @ axes).astype(np.float32)


ITEMS = mixed(900, np.geomspace(3, 0.05, 16), 1)
# Users do not look along the items' longest axes, but along the shortest.
USERS = mixed(700, np.geomspace(0.01, 2, 16), 2)


@pytest.mark.parametrize("make", [principal_rotation, lambda v: learned_rotation(v, USERS, SIZES)])
def test_full_width_scores_and_norms_stay_as_they_were(make):
    rotation = make(ITEMS)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(16), atol=2e-6)
    items, users = rotate(ITEMS, rotation), rotate(USERS, rotation)
    np.testing.assert_allclose(users @ items.T, USERS @ ITEMS.T, atol=2e-5)
    np.testing.assert_allclose(
        np.linalg.norm(items, axis=1), np.linalg.norm(ITEMS, axis=1), rtol=1e-5
    )


def test_no_other_axes_keep_more_of_the_items_squares():
    items = rotate(ITEMS, principal_rotation(ITEMS)).astype(np.float64)
    squares = np.square(items).sum(0)
    assert (np.diff(squares) <= 0).all()
    singular = np.square(np.linalg.svd(ITEMS.astype(np.float64), compute_uv=False))
    np.testing.assert_allclose(squares, singular, rtol=1e-4)


def test_blocks_of_a_mapped_file_give_the_same_axes(tmp_path):
    np.save(tmp_path / "v.npy", ITEMS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    np.testing.assert_array_equal(principal_rotation(mapped), principal_rotation(ITEMS))


def test_learning_from_users_makes_prefixes_of_scores_better_than_pca():
    pca = principal_rotation(ITEMS)
    learned = learned_rotation(ITEMS, USERS, SIZES, steps=150, sample=256)
    missed = [
        loss_of(rotate(ITEMS, r), rotate(USERS, r), SIZES)
        for r in (np.eye(16, dtype=np.float32), pca, learned)
    ]
    assert missed[2] < 0.7 * min(missed[:2])
    assert (
        learned_rotation(ITEMS, USERS, SIZES, steps=3).tolist()
        == learned_rotation(ITEMS, USERS, SIZES, steps=3).tolist()
    )


def test_the_loss_is_what_prefixes_miss_of_centred_scores():
    u, v = (x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (USERS, ITEMS))
    full = u @ v.T
    missed = [np.square(full - u[:, :g] @ v[:, :g].T).sum() / np.square(full).sum() for g in (4, 8)]
    assert loss_of(ITEMS, USERS, (4, 8, 16)) == pytest.approx(np.mean(missed), rel=1e-9)
    assert loss_of(ITEMS, USERS, (16,)) == 0


def test_the_gradient_is_the_slope_of_the_loss():
    u, v = (x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (USERS, ITEMS))
    skew = np.random.default_rng(0).standard_normal((16, 16))
    skew -= skew.T
    slope = (_skew_gradient(u.T @ u, v.T @ v, (2, 4, 8)) * skew).sum()

    def loss(step):
        turned = cayley(step * skew)
        return loss_of((v @ turned), (u @ turned), SIZES)

    assert slope == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-4)


def test_cayley_gives_rotations():
    skew = np.random.default_rng(3).standard_normal((6, 6))
    turned = cayley(skew - skew.T)
    np.testing.assert_allclose(turned @ turned.T, np.eye(6), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)


def test_vectors_of_zeros_are_refused():
    with pytest.raises(DataError, match="all zero"):
        principal_rotation(np.zeros((5, 4), np.float32))
