"""SLIM against non-negative least squares, one dense column at a time."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from recsys.baselines import BASELINES, default_baselines, item_knn, slim
from recsys.baselines.slim import SlimConfig, fit_slim
from recsys.config import apply_overrides
from recsys.data.histories import Histories
from recsys.recipes.evaluating.baselines import BaselinesConfig


def slim_weights(x, l1, l2, neighbours=None):
    """`[N, N]` of the dense 0/1 matrix `x [U, N]`.

    With `H = G + l2` a column minimizes `1/2 w H w - (g - l1) w`, and with `H = L L^T` that is half
    of `||L^T w - L^-1 (g - l1)||^2` but for a number.
    """
    num_items = x.shape[1]
    gram, weights = x.T @ x, np.zeros((num_items, num_items))
    for j in range(num_items):
        others = [i for i in range(num_items) if i != j and gram[i, j] > 0]
        if neighbours:
            # In 32 bits, product by product: other roundings order equal cosines otherwise.
            norms = np.sqrt(np.maximum(gram.diagonal(), 1)).astype(np.float32)
            cosines = gram[:, j].astype(np.float32) / (norms[j] * norms)
            others = [i for i in others if gram[i, j] > l1]
            others = sorted(others, key=lambda i: (-cosines[i], i))[:neighbours]
        if others:
            own = gram[np.ix_(others, others)] + l2 * np.eye(len(others))
            root = np.linalg.cholesky(own)
            weights[others, j] = nnls(root.T, np.linalg.solve(root, gram[others, j] - l1))[0]
    return weights


def jagged(x) -> Histories:
    rows, items = np.nonzero(x)
    offsets = np.searchsorted(rows, np.arange(len(x) + 1)).astype(np.int64)
    return Histories(np.arange(len(x)), items.astype(np.int32), offsets)


@example(76, 0, 0.5, 3, 1)  # two candidates whose cosines are equal but for rounding
@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6), st.sampled_from([0, 0.5, 2]), st.sampled_from([0.5, 4]),
    st.sampled_from([None, 3]), st.sampled_from([1, 2000]),
)  # fmt: skip
def test_weights_are_those_of_non_negative_least_squares_whatever_the_blocks(
    seed, l1, l2, neighbours, block
):
    random = np.random.default_rng(seed)
    x = (random.random((40, 15)) < random.random(15) * 0.6).astype(float)
    x[:, 4] = 0  # nobody had it
    config = SlimConfig(l1=l1, l2=l2, neighbours=neighbours, tolerance=1e-8, sweeps=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_knn, "_BLOCK_BYTES", block)
        patch.setattr(slim, "_AT_ONCE", 4)
        found = fit_slim(config, jagged(x), 15)
    wanted = slim_weights(x, l1, l2, neighbours)
    np.testing.assert_allclose(found.weights.toarray(), wanted, atol=1e-5)
    assert (found.weights.data > 0).all()
    np.testing.assert_allclose(found.scores(jagged(x)).numpy(), x @ wanted, atol=1e-4)


def test_weights_do_not_depend_on_the_number_of_threads(monkeypatch):
    x = np.random.default_rng(0).random((50, 20)) < 0.3
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(fit_slim(SlimConfig(l1=0, l2=1), jagged(x), 20).weights.toarray())
    np.testing.assert_array_equal(*found)


def test_it_is_found_by_name_with_its_options_and_not_among_the_defaults():
    tree = {"models": [apply_overrides({"name": "slim"}, ["neighbours=50", "l1=2"])]}
    (config,) = BaselinesConfig.model_validate(tree).models
    assert config == SlimConfig(neighbours=50, l1=2)
    assert "slim" in BASELINES.names()
    assert "slim" not in [each.name for each in default_baselines(100).configs]
