"""Popularity in the last coordinate of each block, in place of nothing else."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.models import MODELS
from recsys.recipes.updating.holding import hold_items
from recsys.towers.popularity import PopularityCoordinates, popularity_of

SIZES = (4, 8, 16)
GRANULARITIES = Granularities(sizes=SIZES, normalize=True, initial_scale=10.0)
PLACES = [size - 1 for size in SIZES]


def vectors(rows, seed, profile=(1.0, 2.0, 0.5)):
    """`[rows, 16]` with the same length in each block, `profile`."""
    drawn = torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed))
    drawn[:, PLACES] = 0.0
    blocks = [
        normalize(drawn[:, lo:hi], dim=1) * length
        for (lo, hi), length in zip(GRANULARITIES.slices, profile, strict=True)
    ]
    return torch.cat(blocks, 1)


def test_a_score_is_the_cosine_and_the_weight_times_popularity_at_every_granularity():
    shared = PopularityCoordinates(GRANULARITIES, 0.05)
    users, items = vectors(7, 0), vectors(30, 1)
    popularity = popularity_of(torch.arange(30) ** 2)
    filled = shared.of_users(users), shared.of_items(items, popularity)
    lengths = (1 + (0.05 * popularity).square()).sqrt() * 2**0.5
    for size in SIZES:
        cosines = normalize(users[:, :size]) @ normalize(items[:, :size]).T
        found = normalize(filled[0][:, :size]) @ normalize(filled[1][:, :size]).T
        torch.testing.assert_close(found, (cosines + 0.05 * popularity) / lengths)


def test_only_the_last_coordinate_of_a_block_holds_it_and_what_stood_there_is_left_out():
    shared = PopularityCoordinates(GRANULARITIES, 0.05)
    users = vectors(7, 0)
    dirty = users.clone()
    dirty[:, PLACES] = 9.0
    found = shared.of_users(dirty)
    torch.testing.assert_close(found, shared.of_users(users))
    assert torch.equal(shared.without(found), users)
    torch.testing.assert_close(found[:, PLACES], torch.tensor([[1.0, 2.0, 0.5]]).expand(7, -1))
    items = shared.of_items(dirty, torch.full((7,), -2.0))
    torch.testing.assert_close(items[:, PLACES], found[:, PLACES] * -0.1)
    assert not shared.of_users(torch.zeros(1, 16)).any()  # nobody known: no NaN


def test_popularity_is_a_logarithm_around_zero():
    found = popularity_of(torch.tensor([0, 1, 3]))
    torch.testing.assert_close(found.diff(), torch.log(torch.tensor([2.0, 2.0])))
    assert abs(float(found.sum())) < 1e-6


def test_vectors_of_some_items_learn_in_training_and_are_those_of_all():
    kind = MODELS.find("mf")
    given = {"name": "mf", "popularity": 0.1, "granularities": {"sizes": SIZES}}
    model = kind(kind.Config.model_validate(given), 5, num_users=2)
    model.note_rows(Histories(np.array([0, 1]), np.array([0, 1, 0, 2]), np.array([0, 2, 4])))
    chosen = torch.tensor([3, 0])
    for found in (model.train().item_vectors_at(chosen), model.item_vectors()[chosen]):
        found[:, PLACES].sum().backward()  # their lengths hold popularity
        assert model.table.weight.grad[chosen].any()
        model.table.weight.grad = None
    with torch.inference_mode():
        model.eval()
        assert torch.equal(model.item_vectors_at(chosen), model.item_vectors()[chosen])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "mf", "popularity": 0.1}, r"model\.popularity counts their rows anew"),
        ({"name": "lightgcn"}, "those of lightgcn are sums over the graph"),
        ({"name": "ltgnn"}, "those of ltgnn are sums over the graph"),
    ],
)
def test_items_that_move_by_themselves_are_not_said_to_stand_still(given, told):
    kind = MODELS.find(given["name"])
    model = kind(kind.Config.model_validate(given), 5, num_users=2)
    with pytest.raises(ConfigError, match=told):
        hold_items(model, torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize("name", ["mf", "lightgcn", "ltgnn", "ultragcn"])
def test_training_leaves_its_coordinates_alone_and_vectors_hold_it(name):
    kind = MODELS.find(name)
    given = {"name": name, "popularity": 0.1, "granularities": {"sizes": SIZES}}
    torch.manual_seed(0)
    model = kind(kind.Config.model_validate(given), 9, num_users=8)
    items = np.array([0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 1], np.int64)
    rows = Histories(np.arange(8), items, np.arange(0, 17, 2))
    with pytest.raises(ConfigError, match=r"model\.popularity|note_rows first"):
        model.eval().item_vectors()
    model.note_rows(rows)
    model.begin(lambda _: rows)
    model.train()
    batch = Batch(histories=rows, targets=rows.items)
    model.loss(batch, None).total.backward()
    for table in (model.user_table.weight, model.table.weight):
        assert not table.grad[:, PLACES].any() and table.grad.any()
    model.eval()
    with torch.inference_mode():
        users, found = model.user_vectors(rows), model.item_vectors()
    weights = popularity_of(torch.tensor([8, 2, 1, 1, 1, 1, 1, 1, 0])) * 0.1
    assert weights[0] > weights[1] > 0 > weights[8]
    for (lo, hi), place in zip(GRANULARITIES.slices, PLACES, strict=True):
        torch.testing.assert_close(users[:, place], users[:, lo : hi - 1].norm(dim=1))
        torch.testing.assert_close(found[:, place], weights * found[:, lo : hi - 1].norm(dim=1))


def test_a_user_of_items_alone_has_popularity_too():
    kind = MODELS.find("mf")
    config = {"name": "mf", "users": "history", "granularities": {"sizes": SIZES}}
    assert not kind.Config.model_validate(config).reads_rows
    found = kind.Config.model_validate(config | {"popularity": 0.1})
    assert found.reads_rows
    model = kind(found, 3, num_users=2).eval()
    rows = Histories(np.array([0, 1]), np.array([0, 1, 0, 2]), np.array([0, 2, 4]))
    model.note_rows(rows)
    with torch.inference_mode():
        users = model.user_vectors(rows)
        blocks = [users[:, lo : hi - 1].norm(dim=1) for lo, hi in GRANULARITIES.slices]
        torch.testing.assert_close(users[:, PLACES], torch.stack(blocks, 1))
        tower = model.user_tower()
        seen = model.item_vectors()[torch.tensor([[0, 1], [0, 2]])]
        torch.testing.assert_close(tower(seen, torch.tensor([2, 2])), users)


@pytest.mark.parametrize(
    ("granularities", "told"),
    [
        ({"sizes": [4, 8], "normalize": False}, "added to cosines, and these scores are not"),
        ({"sizes": [4, 5, 8]}, "takes one coordinate of each granularity, and 5 adds no other"),
        ({"sizes": [1, 8]}, "and 1 adds no other"),
    ],
)
def test_popularity_without_room_is_refused(granularities, told):
    config = MODELS.find("mf").Config
    given = {"name": "mf", "granularities": granularities}
    config.model_validate(given)
    with pytest.raises(ValidationError, match=told):
        config.model_validate(given | {"popularity": 0.1})
