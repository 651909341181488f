"""Models of users without sequences: what they compute, and every verb on data without an order."""

import numpy as np
import pytest
import torch

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.models import ELSA, IALS, ELSAConfig, IALSConfig, Spectral, SpectralConfig
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.tables import note_progress
from tests.contract import check_model, checkerboard

SIZES = (4, 8)
MODELS = {
    "elsa": {"epochs": 15, "rate": 0.1},
    "ials": {"epochs": 8, "rate": None, "alpha": 0.3},
    "spectral": {"epochs": 1, "rate": None},
}


def settings(name, data, protocol="s3rec", **trainer):
    options = dict(MODELS[name])
    epochs, rate = options.pop("epochs"), options.pop("rate")
    tree = {
        "data": str(data),
        "protocol": protocol,
        "threads": 1,
        "model": {"name": name, "granularities": {"sizes": list(SIZES)}, **options},
        "trainer": {"epochs": epochs, "patience": epochs, "validate_every": epochs, **trainer},
    }
    if rate:
        tree["trainer"]["optimizer"] = {"learning_rate": rate, "schedule": "constant"}
        tree["batching"] = {"batch_tokens": 200}
    return RunConfig.model_validate(tree)


@pytest.mark.parametrize("name", MODELS)
def test_it_passes_the_checkerboard(name, tmp_path):
    board = checkerboard(tmp_path / "board")
    counter = iter(range(9))

    def fit(_board, _rows):
        out = tmp_path / f"run{next(counter)}"
        return load_run(train(settings(name, board.folder), out=out)).model

    check_model(fit, tmp_path)


def histories(*lists) -> Histories:
    lengths = [len(items) for items in lists]
    return Histories(
        np.arange(len(lists)),
        np.concatenate(lists).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


LISTS = ([1, 2, 3], [4, 9], [5, 6, 7, 8, 0, 1])


@pytest.mark.parametrize("table", [{}, {"name": "sparse", "kept": 3}])
@pytest.mark.parametrize("normalize", [False, True])
def test_elsa_s_loss_is_that_of_scores_made_one_by_one(normalize, table):
    sizes = Granularities(sizes=SIZES, normalize=normalize)
    torch.manual_seed(0)
    config = {"granularities": sizes, "init_std": 1.0, "table": table}
    model = ELSA(ELSAConfig.model_validate(config), 12)
    note_progress(model, 0.9)
    rows = histories(*LISTS)
    given = model.loss(Batch(rows, rows.items.astype(np.int64)), None)
    had = torch.from_numpy(rows.to_csr(12).toarray())
    whole = torch.nn.functional.normalize(model.table.vectors())
    assert ((whole != 0).sum(1) == (3 if table else SIZES[-1])).all()
    for g, size in enumerate(SIZES):
        items = whole[:, :size]
        items = torch.nn.functional.normalize(items) if normalize else items
        weights = whole[:, :size] @ items.T
        scores = had @ (weights - torch.diag(weights.diagonal()))
        cosine = torch.nn.functional.cosine_similarity(had, scores)
        torch.testing.assert_close(given.per_granularity[g], (2 - 2 * cosine).mean())
    torch.testing.assert_close(given.total, given.per_granularity.mean())


def objective(config, users, items, had, missing):
    """What iALS minimizes over users, with its sums as they are written."""
    total = 0.0
    counts = had.sum(1) + config.alpha * had.shape[1]
    for weight, size in zip(
        config.granularities.normalized_weights, config.granularities.sizes, strict=True
    ):
        scores = users[:, :size] @ items[:, :size].T
        total = total + weight * (
            (had * (1 - scores) ** 2).sum()
            + config.alpha * (missing * scores**2).sum()
            + config.ridge * (counts**config.exponent @ users[:, :size].square().sum(1))
        )
    return total


def test_a_user_of_ials_is_where_the_gradient_of_its_objective_is_zero():
    sizes = Granularities(sizes=SIZES, weights=(1.0, 3.0))
    config = IALSConfig(granularities=sizes, alpha=0.2, ridge=0.05, exponent=0.7, user_steps=12)
    torch.manual_seed(0)
    model = IALS(config.model_copy(update={"init_std": 3.0}), 12).eval()
    model.missing.copy_(torch.rand(12) + 0.5)
    rows = histories(*LISTS)
    users = model.user_vectors(rows).requires_grad_()
    had = torch.from_numpy(rows.to_csr(12).toarray())
    (slope,) = torch.autograd.grad(objective(config, users, model.items, had, model.missing), users)
    (at_zero,) = torch.autograd.grad(
        objective(
            config,
            zero := torch.zeros_like(users).requires_grad_(),
            model.items,
            had,
            model.missing,
        ),
        zero,
    )
    assert float(slope.abs().max()) < 1e-4 * float(at_zero.abs().max())


def test_rounds_of_ials_go_down():
    sizes = Granularities(sizes=SIZES)
    config = IALSConfig(granularities=sizes, alpha=0.2, ridge=0.05, user_power=0, item_power=0.5)
    torch.manual_seed(0)
    model, rows = IALS(config, 12).eval(), histories(*LISTS)
    had = torch.from_numpy(rows.to_csr(12).toarray())
    found = []
    for _, _ in zip(range(4), model.solve(rows), strict=False):
        users = model.user_vectors(rows)
        counts = had.sum(0) + config.alpha * len(had)
        ridge = sum(
            weight * config.ridge * (counts @ model.items[:, :size].square().sum(1))
            for weight, size in zip((0.5, 0.5), SIZES, strict=True)
        )
        found.append(float(objective(config, users, model.items, had, model.missing) + ridge))
    assert found == sorted(found, reverse=True) and found[-1] < 0.95 * found[0]


def test_spectral_scores_are_those_of_the_dense_decomposition():
    rng = np.random.default_rng(0)
    lists = [rng.permutation(20)[: rng.integers(3, 9)].tolist() for _ in range(30)]
    rows = histories(*lists)
    config = SpectralConfig(
        granularities=Granularities(sizes=SIZES),
        user_power=0.5,
        item_power=0.3,
        popularity=0.4,
        filter_power=0.7,
    )
    torch.manual_seed(0)
    model = Spectral(config, 20).eval()
    assert len(list(model.solve(rows))) == 1
    had = rows.to_csr(20).toarray().astype(np.float64)
    degrees = had.sum(1)[:, None] ** -0.5, had.sum(0)[None] ** -0.3
    _, values, vectors = np.linalg.svd(had * degrees[0] * degrees[1])
    popular = had.sum(0) ** 0.4
    for size in SIZES:
        kept = min(size, SIZES[-1] - 1)  # the last coordinate is the weight
        kernel = vectors[:kept].T * values[:kept] ** 1.4 @ vectors[:kept]
        wanted = (had / popular) @ kernel * popular
        scores = model.user_vectors(rows)[:, :size] @ model.item_vectors()[:, :size].T
        scale = (scores[0, 0] / wanted[0, 0]).item()
        np.testing.assert_allclose(scores.numpy(), scale * wanted, atol=1e-4 * abs(scores).max())
